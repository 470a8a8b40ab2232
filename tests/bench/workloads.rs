//! The workloads: what they need on disk, made outside the sandbox, and their command lines.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One benchmark that is a whole program's run.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Its name, as `--only` takes it.
    pub name: &'static str,
    /// A shell script, run in the prepared directory.
    pub script: &'static str,
}

/// All of them, in the order of the table.
pub const WORKLOADS: &[Workload] = &[
    Workload {
        name: "python-start",
        script: "exec /usr/bin/python3 -c 'import json, re, subprocess, asyncio'",
    },
    Workload {
        name: "gcc-20-files",
        script: "mkdir -p o && for i in $(seq 1 20); do gcc -O2 -c -o o/$i.o gcc/$i.c || exit; done",
    },
    Workload { name: "make-j2", script: "rm -f *.o p && exec make -s -j2 p" },
    Workload { name: "git-status", script: "cd tree && exec git status --short" },
    // Without fsync(2): the host's disk is not what is compared.
    Workload {
        name: "sqlite-inserts",
        script: "rm -f db; { echo 'pragma synchronous = off; create table t (k integer primary key, v text);'; \
                 for i in $(seq 1 200); do echo \"insert into t (v) values ('value $i');\"; done; \
                 echo 'begin;'; seq 1 50000 | sed \"s/.*/insert into t (v) values ('row &');/\"; \
                 echo 'commit; select count(*) from t;'; } | sqlite3 db",
    },
    Workload { name: "tar-tree", script: "tar c tree | cat >/dev/null" },
    Workload {
        name: "shell-100-true",
        script: "i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i + 1)); done",
    },
];

/// Makes the files that the workloads read.
///
/// # Errors
/// When a file cannot be written or git fails.
pub fn prepare(dir: &Path) -> Result<()> {
    let sources = dir.join("gcc");
    fs::create_dir_all(&sources)?;
    for i in 1..=20 {
        fs::write(sources.join(format!("{i}.c")), source(i)?)?;
    }
    fs::write(sources.join("main.c"), "int main(void) { return 0; }\n")?;
    let objects: String = (1..=20).map(|i| format!(" {i}.o")).collect();
    let makefile = format!("CFLAGS = -O2\nVPATH = gcc\np: main.o{objects}\n\tgcc -o $@ $^\n");
    fs::write(dir.join("Makefile"), makefile)?;
    let tree = dir.join("tree");
    for d in 0..100 {
        let sub = tree.join(format!("d{}", d / 10)).join(format!("e{d}"));
        fs::create_dir_all(&sub)?;
        for f in 0..100 {
            let text = format!("file {f} of directory {d}\n").repeat(1 + (d * 7 + f) % 120);
            fs::write(sub.join(format!("f{f}.txt")), text)?;
        }
    }
    let script = "git init -q && git add . && git -c user.name=b -c user.email=b@example.org \
                  commit -qm tree && git status --short";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(&tree)
        .env("HOME", dir)
        .output()
        .context("starting git: is it installed?")?;
    if !output.status.success() {
        bail!("preparing the git tree: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

/// A C file of some functions that includes the usual headers.
fn source(number: usize) -> Result<String> {
    let headers = ["stdio.h", "stdlib.h", "string.h", "unistd.h", "errno.h", "math.h"];
    let mut text = String::new();
    for header in headers {
        writeln!(text, "#include <{header}>")?;
    }
    for k in 0..4 {
        writeln!(
            text,
            "int f{number}_{k}(int n, char *s) {{ int r = {k}; for (int i = 0; i < n; i++) {{ \
             if (s[i] == '{k}') r = r * 31 + i; else r ^= snprintf(s, n, \"%d %s\", r, s + i); }} \
             return r + (int)strlen(s); }}"
        )?;
    }
    Ok(text)
}
