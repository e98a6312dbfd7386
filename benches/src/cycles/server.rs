//! Who answers ng in this bench: Penstock's two daemons, or rtpengine.

use super::client::Client;
use crate::capture::Family;
use crate::cpu::cores;
use crate::netns::ip;
use crate::ng::{Ng, SERVER};
use crate::plane::Bench;
use crate::process::{Process, cpu_s, move_to};
use crate::{Args, Failure, control, rtpengine};

const FAMILY: Family = Family::Ipv4;
/// RTP and RTCP, two legs.
const STREAMS: u32 = 4;
/// Calls' worth of streams beyond the standing ones: a call that ended is in the table until control has read it.
const SPARE: u32 = 4096;
/// Pairs of ports of an address, and those at rest for two seconds after they were used.
const PAIRS: usize = 30_000;
const AT_REST: usize = 120_000;

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Penstock,
    Rtpengine,
}

impl Side {
    /// A reference that goes wrong cannot be measured here; Penstock is void.
    pub fn fault(self, problem: String) -> Failure {
        match self {
            Side::Penstock => Failure::Void(problem),
            Side::Rtpengine => Failure::Environment(format!("rtpengine: {problem}")),
        }
    }
}

/// A running server, and the calls that stand there.
pub struct Server {
    pub side: Side,
    /// That which answers: on the measured core.
    speaker: Process,
    plane: Option<Process>,
    bench: Bench,
    standing: usize,
}

/// Has rtpengine's address be one of the kernel's. The namespace goes, and that with it.
pub fn prepare() -> Result<(), Failure> {
    let net = format!("{}/{}", FAMILY.local(0), FAMILY.prefix());
    ip(&["addr", "add", &net, "dev", "lo"])
}

impl Server {
    /// Starts it, with room for so many calls: what answers ng on the bench's core, Penstock's plane beside it.
    ///
    /// # Errors
    /// [`Failure::Environment`] if a program is missing or does not start.
    pub fn start(args: &Args, side: Side, calls: usize) -> Result<Server, Failure> {
        let (beside, core) = cores(args)?;
        let ng = Ng::new()?;
        let addresses = (2 * calls + AT_REST).div_ceil(PAIRS) as u16;
        let capacity = STREAMS * (calls as u32 + SPARE);
        let bench = Bench::new(args, FAMILY, 1024)?.sized(beside, addresses, capacity);
        let (speaker, plane) = match side {
            Side::Rtpengine => {
                let dir = bench.file("");
                (rtpengine::start(core, FAMILY.local(0), &dir, &ng)?, None)
            }
            Side::Penstock => {
                let plane = bench.start_on(&config(&bench, core, addresses, calls), "adaptive")?;
                // The steward too: it would take the measured core, where there are two.
                move_to(plane.pid(), beside)?;
                (control::start(args, &bench, &ng)?, Some(plane))
            }
        };
        Ok(Server {
            side,
            speaker,
            plane,
            bench,
            standing: 0,
        })
    }

    /// Sets up calls until so many stand.
    ///
    /// # Errors
    /// See [`Side::fault`].
    pub fn stand(&mut self, client: &mut Client, calls: usize) -> Result<(), Failure> {
        let more = calls.saturating_sub(self.standing);
        let set_up = client.stand(more);
        self.standing += more;
        self.checked(set_up)
    }

    /// The outcome, or rather why the server is gone.
    ///
    /// # Errors
    /// See [`Side::fault`].
    pub fn checked<T>(&mut self, outcome: Result<T, String>) -> Result<T, Failure> {
        for process in [Some(&mut self.speaker), self.plane.as_mut()] {
            if let Some(why) = process.map(Process::ended).transpose()?.flatten() {
                return Err(self.side.fault(why));
            }
        }
        outcome.map_err(|wrong| self.side.fault(wrong))
    }

    /// Has all of it run on one CPU.
    ///
    /// # Errors
    /// [`Failure::Environment`] if that cannot be.
    pub fn plane_to(&self, core: usize) -> Result<(), Failure> {
        let plane = self.plane.as_ref();
        plane.map_or(Ok(()), |plane| move_to(plane.pid(), core))
    }

    /// Processor time of what answers, and of the plane, so far, in seconds.
    ///
    /// # Errors
    /// [`Failure::Environment`] if it is gone.
    pub fn cpu_s(&self) -> Result<[f64; 2], Failure> {
        let plane = self.plane.as_ref();
        let plane = plane.map_or(Ok(0.0), |plane| cpu_s(plane.pid()))?;
        Ok([cpu_s(self.speaker.pid())?, plane])
    }

    /// Ends it. The calls that stand go with it.
    ///
    /// # Errors
    /// [`Failure::Void`] if Penstock does not end well, or has other streams than those of the standing calls.
    pub fn end(self) -> Result<(), Failure> {
        let Some(plane) = self.plane else {
            return Ok(());
        };
        let live = self.bench.table()?.info().counts.live;
        let wanted = STREAMS * self.standing as u32;
        if live != wanted {
            return Err(Failure::Void(format!(
                "{live} streams stand, {} calls have {wanted}",
                self.standing
            )));
        }
        self.speaker.stop()?;
        plane.stop()
    }
}

/// A port that nothing comes from, and control on `core`.
fn config(bench: &Bench, core: usize, addresses: u16, calls: usize) -> String {
    let others: String = (1..addresses)
        .map(|n| {
            format!(
                "[[control.interface]]\nname = \"default\"\naddress = \"{}\"\nports = \"2000-61999\"\n",
                FAMILY.local(n)
            )
        })
        .collect();
    format!(
        "{}[control]\ncore = {core}\nng = \"{SERVER}\"\nsocket = \"{}\"\nstore = \"{}\"\nmax_calls = {}\n{others}\
         [timeouts]\nstart_s = 0\nsilence_s = 0\nhold_s = 0\none_way_s = 0\n",
        bench.port("net_null0,no-rx=1"),
        bench.file("control.sock").display(),
        bench.file_in_memory("calls.journal").display(),
        calls + SPARE as usize,
    )
}
