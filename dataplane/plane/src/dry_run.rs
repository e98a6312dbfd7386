//! `--dry-run`: what the plane would use, and what is missing, in sentences. Nothing is made, opened for
//! writing or asked of DPDK but whether it has a driver of that name.

mod devices;

use crate::plan::{Machine, Plan};
use penstock_config::{Config, Polling};
use penstock_dpdk::Hugepages;
use penstock_shm::{Fate, RegionConfig};
use serde_json::{Value, json};
use std::fmt::Write;

/// What was found out.
pub struct Report {
    uses: Vec<String>,
    figures: Value,
    warnings: Vec<String>,
    missing: Vec<String>,
}

impl Report {
    /// Looks at the machine as the configuration would have it used.
    pub fn new(config: &Config) -> Report {
        let machine = Machine::read(config);
        let plan = Plan::new(config, &machine);
        let mut report = Report {
            uses: Vec::new(),
            figures: json!({}),
            warnings: plan.warnings.clone(),
            missing: plan.problems.clone(),
        };
        report.region(config);
        report.memory(config, &plan, &machine);
        report.threads(config, &plan, &machine);
        report.ports(config, &plan);
        report
    }

    /// Whether nothing is missing.
    pub fn would_start(&self) -> bool {
        self.missing.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut list = |title: &str, lines: &[String]| {
            if !lines.is_empty() {
                let _ = writeln!(text, "{title}");
                for line in lines {
                    let _ = writeln!(text, "  {line}");
                }
            }
        };
        list("It uses:", &self.uses);
        list("Worth knowing:", &self.warnings);
        list("Missing:", &self.missing);
        text.push_str(if self.would_start() {
            "It would start."
        } else {
            "It would not start."
        });
        text
    }

    /// For machines.
    pub fn json(&self) -> Value {
        json!({
            "would_start": self.would_start(), "uses": self.figures, "warnings": self.warnings, "missing": self.missing,
        })
    }

    fn region(&mut self, config: &Config) {
        let region = &config.region;
        let wanted = RegionConfig {
            dir: region.dir.clone(),
            table_dir: region.table_dir.clone(),
            streams: region.streams,
            group: region.group,
        };
        let dir = region.dir.display();
        match wanted.preview() {
            Err(error) => self.missing.push(error.to_string()),
            Ok(preview) => {
                let mib = |bytes: u64| bytes.div_ceil(1 << 20);
                let fate = match preview.fate {
                    Fate::Made => "a new one".to_owned(),
                    Fate::Resumed => "the one that is there is resumed".to_owned(),
                    Fate::SetAside { why } => {
                        format!("a new one, the one that is there is set aside: {why}")
                    }
                };
                self.uses.push(format!(
                    "{} MiB for the region in {dir}: a table of {} streams ({} MiB, {} bytes a stream) and rings ({} KiB); {fate}",
                    mib(preview.sizes.table_bytes + preview.sizes.rings_bytes),
                    region.streams,
                    mib(preview.sizes.table_bytes),
                    preview.sizes.record_bytes,
                    preview.sizes.rings_bytes / 1024,
                ));
                self.figures["region"] = json!({
                    "dir": region.dir, "streams": region.streams, "rings_bytes": preview.sizes.rings_bytes,
                    "table_bytes": preview.sizes.table_bytes, "bytes_per_stream": preview.sizes.record_bytes,
                });
            }
        }
    }

    fn memory(&mut self, config: &Config, plan: &Plan, machine: &Machine) {
        let memory_mb = config.plane.memory_mb;
        let kind = match plan.hugepages {
            Hugepages::Yes => "huge pages",
            Hugepages::No => "ordinary pages",
        };
        for pool in &plan.pools {
            let place = pool
                .node
                .map_or(String::new(), |node| format!(" at NUMA node {node}"));
            self.uses.push(format!(
                "{} MiB of {kind}{place} for DPDK: {} packets of up to {} bytes; queues and workers can hold {} of them",
                pool.memory_mb, pool.packets, plan.data_room, pool.needed
            ));
        }
        let available = available_mb();
        if plan.hugepages == Hugepages::No && available.is_some_and(|mb| mb < memory_mb.into()) {
            self.missing.push(format!(
                "[plane] memory_mb = {memory_mb}, but {} MiB of memory are available: lower it",
                available.unwrap_or(0)
            ));
        }
        let pools = plan.pools.iter().map(|pool| {
            json!({ "numa_node": pool.node, "memory_mb": pool.memory_mb, "packets": pool.packets, "needed": pool.needed })
        });
        self.figures["memory"] = json!({
            "memory_mb": memory_mb, "hugepages": plan.hugepages == Hugepages::Yes, "hugepages_free_mb": machine.huge_free_mb,
            "data_room": plan.data_room, "pools": pools.collect::<Vec<_>>(),
        });
    }

    fn threads(&mut self, config: &Config, plan: &Plan, machine: &Machine) {
        let node = |cpu: &usize| machine.cpu_nodes.get(cpu);
        let place = |cpu: &usize| match node(cpu) {
            Some(node) => format!("{cpu} (NUMA node {node})"),
            None => cpu.to_string(),
        };
        let workers: Vec<_> = plan.workers.iter().map(place).collect();
        let polling = match config.plane.polling {
            Polling::Busy => "busy",
            Polling::Adaptive => "adaptive",
        };
        self.uses.push(format!(
            "CPU {} for the worker{}, {polling} polling; CPU {} for the steward",
            workers.join(", "),
            if workers.len() == 1 { "" } else { "s" },
            plan.others.iter().map(place).collect::<Vec<_>>().join(", ")
        ));
        let workers =
            (plan.workers.iter()).map(|cpu| json!({ "cpu": cpu, "numa_node": node(cpu) }));
        self.figures["workers"] = workers.collect();
        self.figures["steward_cpus"] = json!(plan.others);
    }

    fn ports(&mut self, config: &Config, plan: &Plan) {
        let mut ports = Vec::new();
        let held = devices::Held::read();
        for (port, planned) in config.ports.iter().zip(&plan.ports) {
            let queues = planned.queues;
            let needs = devices::capabilities(&port.device);
            self.uses.push(format!(
                "port \"{}\", {}: receive and send queues, {queues} of {} descriptors each{}{}",
                port.name,
                port.device.as_str(),
                port.descriptors,
                planned
                    .node
                    .map_or(String::new(), |node| format!(", NUMA node {node}")),
                if needs.is_empty() {
                    String::new()
                } else {
                    format!(", with {}", needs.join(", "))
                },
            ));
            let memory_mb = config.plane.memory_mb;
            for device in std::iter::once(&port.device).chain(&port.exception) {
                let named = |what| format!("port \"{}\": {what}", port.name);
                let missing = devices::missing(device);
                self.missing.extend(missing.into_iter().map(named));
                let missing = held.missing(device, memory_mb);
                self.missing.extend(missing.into_iter().map(named));
            }
            if let Some(exception) = &port.exception {
                self.uses.push(format!(
                    "port \"{}\": {} for what is the kernel's, one queue each way, with {}",
                    port.name,
                    exception.as_str(),
                    devices::capabilities(exception).join(", ")
                ));
            }
            ports.push(json!({
                "name": port.name, "device": port.device.as_str(), "queues": queues, "descriptors": port.descriptors,
                "numa_node": planned.node, "capabilities": needs, "exception": port.exception.as_ref().map(|device| device.as_str()),
            }));
        }
        self.figures["ports"] = ports.into();
    }
}

/// MiB of memory that can be had without swapping.
fn available_mb() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `1,024 MiB` as 1024.
    fn number(cell: &str) -> Option<u64> {
        let digits: String = cell.trim().trim_end_matches(" MiB").replace(',', "");
        digits.parse().ok()
    }

    fn region_of(streams: u32) -> RegionConfig {
        RegionConfig {
            dir: "/none".into(),
            table_dir: None,
            streams,
            group: None,
        }
    }

    #[test]
    fn the_manual_states_what_a_table_takes() {
        let manual = include_str!("../../../BRINGUP.md");
        let mut rows = 0;
        for line in manual.lines().filter(|line| line.ends_with(" MiB |")) {
            let cells: Vec<_> = line
                .trim_matches('|')
                .split('|')
                .filter_map(number)
                .collect();
            let [streams, calls, table_mb] = cells[..] else {
                panic!("{line}");
            };
            assert_eq!(
                region_of(streams as u32)
                    .sizes()
                    .table_bytes
                    .div_ceil(1 << 20),
                table_mb,
                "{line}"
            );
            assert_eq!(calls * 4, streams);
            rows += 1;
        }
        assert_eq!(rows, 4);
        let defaults = penstock_config::DEFAULTS;
        let each = format!("({} bytes each)", region_of(16).sizes().record_bytes);
        assert!(
            defaults.contains(&each),
            "penstock.toml does not say {each}"
        );
    }
}
