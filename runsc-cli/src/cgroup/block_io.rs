//! Limits on what goes to and from block devices (`cgroup-v1/blkio-controller`, `io` of version 2).

use oci_spec::runtime::{LinuxBlockIo, LinuxThrottleDevice};

/// A file of version 1 with its line, and one of version 2.
pub type Line = ((String, String), (String, String));

/// Files and lines.
pub fn lines(given: &LinuxBlockIo) -> Vec<Line> {
    let mut lines = Vec::new();
    let mut put = |v1: &str, line: String, v2: &str, line2: String| {
        lines.push(((v1.into(), line), (v2.into(), line2)));
    };
    if let Some(weight) = given.weight().filter(|w| *w != 0) {
        put("blkio.weight", weight.to_string(), "io.weight", of_v2(weight).to_string());
    }
    if let Some(weight) = given.leaf_weight().filter(|w| *w != 0) {
        put("blkio.leaf_weight", weight.to_string(), "", String::new());
    }
    for device in given.weight_device().iter().flatten() {
        let at = format!("{}:{}", device.major(), device.minor());
        if let Some(weight) = device.weight() {
            let v2 = format!("{at} {}", of_v2(weight));
            put("blkio.weight_device", format!("{at} {weight}"), "io.weight", v2);
        }
        if let Some(weight) = device.leaf_weight() {
            put("blkio.leaf_weight_device", format!("{at} {weight}"), "", String::new());
        }
    }
    let lists: [(&Option<Vec<LinuxThrottleDevice>>, &str, &str); 4] = [
        (given.throttle_read_bps_device(), "read_bps", "rbps"),
        (given.throttle_write_bps_device(), "write_bps", "wbps"),
        (given.throttle_read_iops_device(), "read_iops", "riops"),
        (given.throttle_write_iops_device(), "write_iops", "wiops"),
    ];
    for (list, v1, v2) in lists {
        for device in list.iter().flatten() {
            let (at, rate) = (format!("{}:{}", device.major(), device.minor()), device.rate());
            let file = format!("blkio.throttle.{v1}_device");
            put(&file, format!("{at} {rate}"), "io.max", format!("{at} {v2}={rate}"));
        }
    }
    lines
}

/// 10 to 1000 of version 1 as 1 to 10000 of version 2, as systemd and runc do.
fn of_v2(weight: u16) -> u64 {
    1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::{lines, of_v2};

    #[test]
    fn throttles() {
        let text = r#"{"weight":500,"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1024}]}"#;
        let lines = lines(&serde_json::from_str(text).unwrap());
        assert_eq!(lines[0].0, ("blkio.weight".to_string(), "500".to_string()));
        assert_eq!(lines[1].0.0, "blkio.throttle.read_bps_device");
        assert_eq!(lines[1].1, ("io.max".to_string(), "8:0 rbps=1024".to_string()));
        assert_eq!((of_v2(10), of_v2(1000)), (1, 10000));
    }
}
