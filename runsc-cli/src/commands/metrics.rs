//! `runsc export-metrics` and `runsc metric-server`: what containers use, for Prometheus.

use crate::cli::{Global, MetricServerArgs};
use crate::{log, metrics, state};
use anyhow::Context;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

/// Longest request line that is read, in bytes.
const REQUEST_MAX: u64 = 8 << 10;

/// How long a client may take to ask, and to take the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(5);

/// Prints the metrics of one container.
pub fn export(global: &Global, id: &str) -> anyhow::Result<u8> {
    let root = global.state_root();
    crate::container::Container::look(&root, id)?;
    print!("{}", metrics::text(&root, &[id.to_string()]));
    Ok(0)
}

/// Answers with the metrics of all containers under `--root`, until it is ended.
pub fn serve(global: &Global, args: &MetricServerArgs) -> anyhow::Result<u8> {
    let listener = TcpListener::bind(&args.address)
        .with_context(|| format!("cannot listen on {}: is the address taken?", args.address))?;
    let address = listener.local_addr().context("cannot tell the address")?;
    println!("listening on http://{address}/metrics");
    let root = global.state_root();
    loop {
        let answered = listener.accept().map_err(anyhow::Error::from);
        if let Err(e) = answered.and_then(|(client, _)| answer(client, &root)) {
            log::warn(&format!("a client of the metric server: {e:#}"));
        }
    }
}

fn answer(client: TcpStream, root: &Path) -> anyhow::Result<()> {
    client.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    client.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let mut line = String::new();
    BufReader::new((&client).take(REQUEST_MAX))
        .read_line(&mut line)
        .context("reading its request")?;
    let mut words = line.split_whitespace();
    let (status, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/metrics")) => ("200 OK", metrics::text(root, &state::list(root)?)),
        (Some("GET"), _) => ("404 Not Found", "there is /metrics only\n".into()),
        _ => ("405 Method Not Allowed", "only GET is known\n".into()),
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    (&client).write_all(head.as_bytes()).and_then(|()| (&client).write_all(body.as_bytes()))?;
    Ok(())
}
