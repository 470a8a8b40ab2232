//! Throughput over simulated networks. The bounds are snapshots: a change that makes a path slower shows.

use super::sim::*;
use crate::*;
use std::time::Duration;

/// Megabits per second of `bytes` from one stack to another.
fn run(seed: u64, path: Path, bytes: usize, congestion: Congestion) -> (f64, TcpInfo, Sim) {
    let mut config = Config::default();
    config.tcp.congestion = congestion;
    let back = Path { loss: 0, reorder: 0, duplicate: 0, ..path };
    let mut sim = Sim::new(seed, [path, back], [config, Config::default()]);
    let (c, s) = sim.connect();
    let took = sim.transfer(&c, &s, bytes);
    let rate = bytes as f64 * 8.0 / took.as_secs_f64() / 1e6;
    let info = c.info();
    println!(
        "{congestion:?} {path:?}: {rate:.1} Mbit/s, {} retransmissions, {:?}",
        info.total_retrans, sim.dropped
    );
    (rate, info, sim)
}

#[test]
fn a_clean_path_is_filled() {
    let (rate, info, _) = run(1, Path::CLEAN, 50 << 20, Congestion::Cubic);
    assert!(rate > 88.0, "{rate}");
    assert!(info.total_retrans < 1500, "{}", info.total_retrans);
}

#[test]
fn reno_fills_it_too() {
    let (rate, ..) = run(1, Path::CLEAN, 50 << 20, Congestion::Reno);
    assert!(rate > 85.0, "{rate}");
}

#[test]
fn a_long_fat_path_needs_the_buffers_to_grow() {
    let path = Path { delay: Duration::from_millis(50), queue: 1 << 20, ..Path::CLEAN };
    let (rate, ..) = run(2, path, 100 << 20, Congestion::Cubic);
    assert!(rate > 70.0, "{rate}");
}

#[test]
fn random_loss() {
    for (loss, least) in [(1_000, 30.0), (10_000, 8.0), (50_000, 2.0)] {
        let path = Path { loss, ..Path::CLEAN };
        let (rate, ..) = run(3, path, 8 << 20, Congestion::Cubic);
        assert!(rate > least, "{loss}: {rate}");
    }
}

#[test]
fn reordering_is_not_loss() {
    let path = Path { reorder: 20_000, ..Path::CLEAN };
    let (rate, info, _) = run(4, path, 20 << 20, Congestion::Cubic);
    assert!(rate > 60.0, "{rate}");
    assert!(info.total_retrans < 800, "{}", info.total_retrans);
}

#[test]
fn duplication_does_little() {
    let path = Path { duplicate: 50_000, ..Path::CLEAN };
    let (rate, ..) = run(5, path, 20 << 20, Congestion::Cubic);
    assert!(rate > 75.0, "{rate}");
}

#[test]
fn everything_at_once_delivers_the_right_bytes() {
    let path = Path { loss: 20_000, duplicate: 20_000, reorder: 50_000, ..Path::CLEAN };
    for seed in 0..8 {
        let mut sim = Sim::new(seed, [path, path], [Config::default(), Config::default()]);
        let (c, s) = sim.connect();
        sim.transfer(&c, &s, 1 << 20);
        sim.transfer(&s, &c, 1 << 20);
        assert!(c.take_error().is_none());
    }
}

#[test]
fn a_tiny_bottleneck_queue() {
    let path = Path { queue: 15_000, rate: 20_000_000, ..Path::CLEAN };
    let (rate, ..) = run(6, path, 10 << 20, Congestion::Cubic);
    assert!(rate > 10.0, "{rate}");
}

#[test]
fn a_slow_path() {
    let path = Path { rate: 1_000_000, queue: 30_000, ..Path::CLEAN };
    let (rate, ..) = run(7, path, 1 << 20, Congestion::Cubic);
    assert!(rate > 0.85, "{rate}");
}

#[test]
fn runs_are_the_same_every_time() {
    let path = Path { loss: 10_000, reorder: 10_000, ..Path::CLEAN };
    let (a, info_a, _) = run(8, path, 2 << 20, Congestion::Cubic);
    let (b, info_b, _) = run(8, path, 2 << 20, Congestion::Cubic);
    assert_eq!(a, b);
    assert_eq!(info_a.total_retrans, info_b.total_retrans);
}
