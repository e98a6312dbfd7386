//! DPDK's environment: memory, and the threads it pins.

use std::collections::BTreeSet;
use std::ffi::{CString, c_char, c_int, c_void};
use std::fs;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use penstock_dpdk_sys as sys;

use crate::error::{Error, c_string, check};

const EAL: &str = "EAL";

static STARTED: AtomicBool = AtomicBool::new(false);

/// Whether packets live on huge pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hugepages {
    /// Yes: anonymous ones, which need no mounted hugetlbfs and vanish with the process.
    Yes,
    /// No: ordinary memory, with which PCI ports do not work on most machines.
    No,
}

/// What EAL is to be started with.
#[derive(Debug, Clone)]
pub struct EalConfig {
    /// The CPUs that the calling thread may run on, one at least.
    pub main_cpus: Vec<usize>,
    /// The CPU of each worker lcore, all different.
    pub worker_cpus: Vec<usize>,
    /// Memory for packets and queues, in MiB, all taken at the start.
    pub memory_mb: u32,
    /// That memory by NUMA node, from 0, in MiB. Empty: where the system puts it. With huge pages only.
    pub node_memory_mb: Vec<u32>,
    /// Whether that memory is huge pages.
    pub hugepages: Hugepages,
    /// The PCI ports that DPDK may use, as `0000:03:00.0`, each with `,key=value` for its
    /// driver if need be. Without any, the PCI bus is not touched.
    pub pci_allow: Vec<String>,
}

/// Proof that EAL is initialised. It stays with the thread that is the main lcore, and is
/// never cleaned up: what DPDK holds is valid until the process ends.
#[derive(Debug)]
pub struct Eal {
    workers: usize,
    _main_lcore: PhantomData<*const ()>,
}

impl Eal {
    /// Starts EAL, and makes the calling thread its main lcore. Its messages, warnings and above,
    /// go to stderr. Nothing is shared through the file system (an empty runtime
    /// folder stays), so that any number of processes can do so at once.
    ///
    /// # Errors
    ///
    /// [`Error::AlreadyInitialised`] at the second call; [`Error::Refused`] for a
    /// configuration that cannot be; [`Error::Call`] if EAL fails, which has written why
    /// to stderr (a CPU that is not there, memory that is not free).
    pub fn init(config: &EalConfig) -> Result<Self, Error> {
        let args = arguments(config)?;
        // Relaxed: nothing but the flag itself is shared.
        if STARTED.swap(true, Ordering::Relaxed) {
            return Err(Error::AlreadyInitialised);
        }
        // SAFETY: replaces the stream of DPDK's log before anything can write to it.
        let ret = unsafe { sys::penstock_log_to_stderr() };
        check(EAL, "rte_openlog_stream", ret)?;

        // EAL may reorder the pointers and keep the strings: they are never freed.
        let mut argv: Vec<*mut c_char> = args.into_iter().map(CString::into_raw).collect();
        let argc = argv.len() as c_int;
        argv.push(std::ptr::null_mut());
        let argv = argv.leak();
        // SAFETY: `argc` strings and a NULL, all writable and alive for ever; STARTED
        // makes this the only call in the process.
        let ret = unsafe { sys::rte_eal_init(argc, argv.as_mut_ptr()) };
        if ret < 0 {
            return Err(Error::from_errno(EAL, "rte_eal_init"));
        }
        Ok(Self {
            workers: config.worker_cpus.len(),
            _main_lcore: PhantomData,
        })
    }

    /// Runs `job` on the worker lcore of `EalConfig::worker_cpus[worker_index]`, which has nothing
    /// else to run. Real-time signals are blocked there. A panic in it aborts the process.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] if there is no such worker, [`Error::Call`] (EBUSY) if it is at work.
    pub fn launch<T: Send + 'static>(
        &self,
        worker_index: usize,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<Worker<T>, Error> {
        let subject = format!("worker {worker_index}");
        if worker_index >= self.workers {
            let problem = format!("EAL was started with {} workers", self.workers);
            return Err(Error::refused(&subject, problem));
        }
        let lcore = lcore_of(worker_index);
        let (result_tx, result) = mpsc::channel();
        let job: Job = Box::new(move || {
            // A Worker that was dropped does not want the result.
            let _ = result_tx.send(job());
        });
        let arg = Box::into_raw(Box::new(job));
        // SAFETY: called on the main lcore (`Eal` is not Send), for one of its worker lcores;
        // `run` takes `arg` over, on a thread that it may be sent to.
        let ret = unsafe { sys::rte_eal_remote_launch(Some(run), arg.cast(), lcore) };
        if ret < 0 {
            // SAFETY: `run` was not called, and will not be: it is still ours.
            drop(unsafe { Box::from_raw(arg) });
        }
        check(&subject, "rte_eal_remote_launch", ret)?;
        Ok(Worker {
            lcore,
            result,
            _main_lcore: PhantomData,
        })
    }
}

/// A job on a worker lcore. Dropping it lets the job go on.
#[derive(Debug)]
pub struct Worker<T> {
    lcore: u32,
    result: mpsc::Receiver<T>,
    // An lcore is waited for by the main lcore only.
    _main_lcore: PhantomData<*const ()>,
}

impl<T> Worker<T> {
    /// Sleeps until the job is done; the worker can then be launched anew.
    pub fn join(self) -> T {
        let result = self.result.recv();
        // It spins, but only from the job's last instruction to the lcore's idle loop.
        // SAFETY: called on the main lcore (`Worker` is not Send), for a worker lcore.
        unsafe { sys::rte_eal_wait_lcore(self.lcore) };
        result.expect("a job sends its result or aborts the process")
    }

    /// Whether the job is done.
    pub fn is_finished(&self) -> bool {
        // SAFETY: called on the main lcore (`Worker` is not Send), for a worker lcore.
        let state = unsafe { sys::rte_eal_get_lcore_state(self.lcore) };
        state == sys::rte_lcore_state_t::WAIT
    }
}

type Job = Box<dyn FnOnce() + Send>;

/// # Safety
///
/// `arg` is a `Box<Job>` made raw, which is handed over.
unsafe extern "C" fn run(arg: *mut c_void) -> c_int {
    block_rt_signals();
    // SAFETY: the caller's promise.
    let job = unsafe { Box::from_raw(arg.cast::<Job>()) };
    // A panic ends here: an extern "C" function aborts instead of unwinding into C.
    job();
    0
}

/// Blocks real-time signals in the calling thread and those it will start: `net_tap` uses one,
/// which EAL's interrupt thread has to take. Call it after [`Eal::init`], which starts that thread.
pub fn block_rt_signals() {
    // SAFETY: changes the signal mask of this thread.
    let ret = unsafe { sys::penstock_block_rt_signals() };
    assert_eq!(ret, 0, "SIG_BLOCK with a valid set cannot fail");
}

/// MiB of huge pages, of whatever sizes, that are free and not reserved: of a NUMA node, or of all.
pub fn hugepages_free_mb(node: Option<u32>) -> u64 {
    let folder = match node {
        Some(node) => format!("/sys/devices/system/node/node{node}/hugepages"),
        None => "/sys/kernel/mm/hugepages".to_owned(),
    };
    let Ok(sizes) = fs::read_dir(folder) else {
        return 0;
    };
    let free_kb = sizes.flatten().filter_map(|size| free_kb(&size.path()));
    free_kb.sum::<u64>() / 1024
}

/// Free memory in pages of one size, from its folder `hugepages-2048kB`.
fn free_kb(size: &Path) -> Option<u64> {
    let name = size.file_name()?.to_str()?;
    let page_kb: u64 = name
        .strip_prefix("hugepages-")?
        .strip_suffix("kB")?
        .parse()
        .ok()?;
    let read = |file| {
        fs::read_to_string(size.join(file))
            .ok()?
            .trim()
            .parse::<u64>()
            .ok()
    };
    // Reservations belong to no node.
    let reserved = read("resv_hugepages").unwrap_or(0);
    let pages = read("free_hugepages")?.saturating_sub(reserved);
    Some(pages * page_kb)
}

/// Whether a driver of DPDK answers to a virtual device's name (`net_tap0,iface=x`). Can be asked before
/// [`Eal::init`].
pub fn knows_device(device: &str) -> bool {
    let Ok(device) = c_string(EAL, device) else {
        return false;
    };
    let mut parsed = sys::rte_devargs::default();
    // SAFETY: `parsed` is written before the call returns; what it then owns is released once, whether the
    // call failed or not. Buses and drivers are in their lists before main() begins.
    unsafe {
        let ret = sys::rte_devargs_parse(&mut parsed, device.as_ptr());
        sys::rte_devargs_reset(&mut parsed);
        ret >= 0
    }
}

/// Worker lcores are numbered from 1, whatever their CPUs: the main lcore is 0.
fn lcore_of(worker_index: usize) -> u32 {
    worker_index as u32 + 1
}

fn arguments(config: &EalConfig) -> Result<Vec<CString>, Error> {
    let workers = &config.worker_cpus;
    if config.main_cpus.is_empty() {
        return Err(Error::refused(EAL, "the main thread needs a CPU to run on"));
    }
    if workers.iter().collect::<BTreeSet<_>>().len() != workers.len() {
        return Err(Error::refused(EAL, "two workers cannot share a CPU"));
    }
    if workers.len() >= sys::RTE_MAX_LCORE as usize {
        let problem = format!("at most {} workers", sys::RTE_MAX_LCORE - 1);
        return Err(Error::refused(EAL, problem));
    }
    let missing = |cpu: &&usize| !Path::new(&format!("/sys/devices/system/cpu/cpu{cpu}")).exists();
    if let Some(cpu) = config.main_cpus.iter().chain(workers).find(missing) {
        return Err(Error::refused(EAL, format!("there is no CPU {cpu}")));
    }

    let main_cpus: Vec<_> = config.main_cpus.iter().map(usize::to_string).collect();
    let mut lcores = format!("0@({})", main_cpus.join(","));
    for (index, cpu) in workers.iter().enumerate() {
        lcores.push_str(&format!(",{}@{cpu}", lcore_of(index)));
    }
    let mut args = vec![
        "penstock".to_owned(),
        format!("--lcores={lcores}"),
        "--main-lcore=0".to_owned(),
        format!("--log-level={}", sys::RTE_LOG_WARNING),
        "--no-telemetry".to_owned(),
    ];
    if config.node_memory_mb.is_empty() {
        args.push(format!("-m{}", config.memory_mb));
    } else {
        let nodes: Vec<_> = config.node_memory_mb.iter().map(u32::to_string).collect();
        args.push(format!("--socket-mem={}", nodes.join(",")));
    }
    match config.hugepages {
        Hugepages::Yes => args.push("--in-memory".to_owned()),
        Hugepages::No => args.extend(["--no-huge".to_owned(), "--no-shconf".to_owned()]),
    }
    if config.pci_allow.is_empty() {
        args.push("--no-pci".to_owned());
    }
    args.extend(config.pci_allow.iter().map(|device| format!("-a{device}")));
    args.iter().map(|arg| c_string(EAL, arg)).collect()
}
