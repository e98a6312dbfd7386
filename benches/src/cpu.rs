//! The machine's CPUs: which ones a bench runs on, and how busy they are.

use crate::{Args, Failure};
use std::fs;
use std::time::Duration;

/// How long a core is watched before a bench, and the part of that others may have of it.
const WATCH: Duration = Duration::from_millis(200);
const BUSY: f64 = 0.2;
/// Once for what the last bench left to the kernel to tidy up.
const WATCHES: usize = 3;

/// Where everything else is to run, and the worker.
///
/// # Errors
/// [`Failure::Environment`] if this process may not run on the worker's CPU, or on no other one.
pub fn cores(args: &Args) -> Result<(usize, usize), Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let allowed = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let allowed = list(allowed.unwrap_or_default());
    let topology = format!("/sys/devices/system/cpu/cpu{}/topology", args.core);
    // A machine that does not say has none.
    let siblings = fs::read_to_string(format!("{topology}/thread_siblings_list"));
    let siblings = list(&siblings.unwrap_or_default());
    let main = choose(&allowed, &siblings, args.core).map_err(Failure::Environment)?;
    Ok((main, args.core))
}

fn choose(allowed: &[usize], siblings: &[usize], core: usize) -> Result<usize, String> {
    if !allowed.contains(&core) {
        return Err(format!(
            "CPU {core} is none that this process may run on ({allowed:?}): choose another with --core"
        ));
    }
    let others = || allowed.iter().copied().filter(|&cpu| cpu != core);
    others()
        .find(|cpu| !siblings.contains(cpu))
        .or_else(|| others().next())
        .ok_or_else(|| {
            format!("a bench needs two CPUs, and this process may run on CPU {core} alone")
        })
}

/// CPUs as the kernel lists them, such as `0-2,5`.
fn list(text: &str) -> Vec<usize> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<usize>().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

/// That the worker's CPU can be measured on.
///
/// # Errors
/// [`Failure::Environment`] if others keep it busy, or [`cores`] refuses.
pub fn is_quiet(args: &Args) -> Result<(), Failure> {
    let (_, core) = cores(args)?;
    let mut busy = 0.0;
    for _ in 0..WATCHES {
        let before = Time::of(Some(core))?;
        std::thread::sleep(WATCH);
        busy = Time::of(Some(core))?.since(before).busy_part();
        if busy <= BUSY {
            return Ok(());
        }
    }
    Err(Failure::Environment(format!(
        "CPU {core} is {:.0} % busy before anything is measured: ps -eLo psr,pcpu,pid,args --sort=-pcpu \
         says by whom (first column: the CPU)",
        100.0 * busy
    )))
}

/// What a CPU has done since the machine started, in hundredths of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Time {
    /// Users', the kernel's and interrupts' work.
    busy: u64,
    /// Taken by the hypervisor.
    stolen: u64,
    all: u64,
}

impl Time {
    /// Of a CPU, or of all of them together.
    ///
    /// # Errors
    /// [`Failure::Environment`] if there is no such CPU.
    pub fn of(core: Option<usize>) -> Result<Time, Failure> {
        let name = core.map_or("cpu".to_owned(), |core| format!("cpu{core}"));
        let text = fs::read_to_string("/proc/stat")?;
        Time::parse(&text, &name)
            .ok_or_else(|| Failure::Environment(format!("/proc/stat has no {name}")))
    }

    fn parse(text: &str, name: &str) -> Option<Time> {
        let line = text.lines().find(|l| l.split(' ').next() == Some(name))?;
        let fields = line.split_whitespace().skip(1).take(8);
        let fields: Vec<u64> = fields.map(|f| f.parse().ok()).collect::<Option<_>>()?;
        let &[user, nice, system, _idle, _iowait, irq, softirq, steal] = fields.as_slice() else {
            return None;
        };
        Some(Time {
            busy: user + nice + system + irq + softirq,
            stolen: steal,
            all: fields.iter().sum(),
        })
    }

    /// What came between.
    pub fn since(self, before: Time) -> Time {
        Time {
            busy: self.busy.saturating_sub(before.busy),
            stolen: self.stolen.saturating_sub(before.stolen),
            all: self.all.saturating_sub(before.all),
        }
    }

    /// Seconds of work.
    pub fn busy_s(self) -> f64 {
        self.busy as f64 / 100.0
    }

    /// The part that was work.
    pub fn busy_part(self) -> f64 {
        self.busy as f64 / self.all.max(1) as f64
    }

    /// The part that the hypervisor took.
    pub fn stolen_part(self) -> f64 {
        self.stolen as f64 / self.all.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_core_is_busy_with_all_but_waiting() {
        let text = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu1 100 20 30 900 888 4 6 52 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\n";
        let one = Time::parse(text, "cpu1").unwrap();
        assert_eq!((one.busy_s(), one.all), (1.6, 2000));
        assert_eq!((one.busy_part(), one.stolen_part()), (0.08, 0.026));
        assert_eq!(Time::parse(text, "cpu").unwrap().all, 72);
        let ten = Time::parse(text, "cpu10").unwrap();
        assert_eq!(one.since(ten).busy, 155);
        assert_eq!(Time::parse(text, "cpu2"), None);
        assert_eq!(Time::parse("cpu1 1 2 3\n", "cpu1"), None);
    }

    #[test]
    fn lists_of_cpus_are_read() {
        assert_eq!(list("\t0-2,5,8-9\n"), [0, 1, 2, 5, 8, 9]);
        assert_eq!(list("7"), [7]);
        assert!(list("").is_empty());
    }

    #[test]
    fn everything_else_runs_beside_the_worker_and_not_on_its_sibling() {
        assert_eq!(choose(&[0, 1], &[1], 1), Ok(0));
        assert_eq!(choose(&[4, 5, 6, 7], &[4, 5], 4), Ok(6));
        assert_eq!(choose(&[4, 5], &[4, 5], 5), Ok(4), "better than none");
        assert!(choose(&[0, 1], &[0], 2).unwrap_err().contains("--core"));
        assert!(choose(&[3], &[3], 3).unwrap_err().contains("two CPUs"));
    }
}
