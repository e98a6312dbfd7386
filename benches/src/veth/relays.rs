//! The relays of `veth`, each with its processes, and the same calls over ng in either.

use crate::capture::{Family, NEIGHBOUR_MAC, OUR_MAC};
use crate::generator::Flow;
use crate::netns::{Wire, ip, mac, set};
use crate::ng::{Ng, SERVER};
use crate::plane::Bench;
use crate::process::{Process, cpu_s};
use crate::{Args, Failure, control, rtpengine};
use std::net::{Ipv4Addr, SocketAddr};

/// The generator's end of the wire and the relay's.
pub const NEAR: &str = "ps0";
pub const FAR: &str = "ps1";
const FAMILY: Family = Family::Ipv4;

/// A wire on whose far end nobody is yet.
pub fn wire() -> Result<Wire, Failure> {
    let wire = Wire::new((NEAR, NEIGHBOUR_MAC), (FAR, OUR_MAC))?;
    for one in ["all", "default", FAR] {
        set(&format!("ipv4/conf/{one}/rp_filter"), "0")?;
    }
    Ok(wire)
}

/// A relay at the far end of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Penstock over `net_af_packet`.
    AfPacket,
    /// Penstock over `net_af_xdp`.
    AfXdp,
    /// The reference.
    #[value(skip)]
    Rtpengine,
}

impl Kind {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::AfPacket => "net_af_packet",
            Kind::AfXdp => "net_af_xdp",
            Kind::Rtpengine => "rtpengine",
        }
    }

    /// Who is to blame for what it did: a reference that goes wrong cannot be measured here, the plane is void.
    pub fn fault(self, problem: String) -> Failure {
        match self {
            Kind::Rtpengine => Failure::Environment(problem),
            Kind::AfPacket | Kind::AfXdp => Failure::Void(problem),
        }
    }
}

/// A running relay with calls.
pub struct Relay {
    kind: Kind,
    ng: Ng,
    server: Server,
    calls: usize,
    /// Outlives what keeps files there.
    _bench: Bench,
}

enum Server {
    Penstock { plane: Process, control: Process },
    Rtpengine { process: Process, _address: Address },
}

impl Relay {
    /// Starts it on the bench's core, polling so if it polls.
    ///
    /// # Errors
    /// [`Failure::Environment`] if a program is missing or does not start.
    pub fn start(args: &Args, kind: Kind, calls: usize, polling: &str) -> Result<Relay, Failure> {
        // Both legs' RTP and RTCP.
        let bench = Bench::new(args, FAMILY, 4 * calls as u32)?;
        let ng = Ng::new()?;
        let server = match kind {
            Kind::Rtpengine => {
                let address = Address::take()?;
                let dir = bench.file("");
                Server::Rtpengine {
                    process: rtpengine::start(args.core, FAMILY.local(0), &dir, &ng)?,
                    _address: address,
                }
            }
            _ => penstock(args, &bench, kind, polling, &ng)?,
        };
        Ok(Relay {
            kind,
            ng,
            server,
            calls: 0,
            _bench: bench,
        })
    }

    /// Sets up so many calls: both directions of each.
    ///
    /// # Errors
    /// [`Failure::Environment`] if one is refused.
    pub fn set_up(&mut self, calls: usize) -> Result<Vec<Flow>, Failure> {
        let mut flows = Vec::with_capacity(2 * calls);
        for call in 0..calls {
            let phones = [phone(2 * call), phone(2 * call + 1)];
            let sides = self.ng.call(&id(call), phones);
            // Rather why it went away than that it does not answer.
            self.alive()?;
            let [caller_side, callee_side] = sides?;
            self.calls += 1;
            flows.push(Flow {
                from: phones[0],
                to: caller_side,
                arrives_from: callee_side,
                arrives_at: phones[1],
            });
            flows.push(Flow {
                from: phones[1],
                to: callee_side,
                arrives_from: caller_side,
                arrives_at: phones[0],
            });
        }
        Ok(flows)
    }

    /// That it still runs.
    ///
    /// # Errors
    /// How it ended, in a sentence; see [`Kind::fault`].
    pub fn alive(&mut self) -> Result<(), Failure> {
        let why = match &mut self.server {
            Server::Rtpengine { process, .. } => process.ended()?,
            Server::Penstock { plane, control } => match plane.ended()? {
                Some(why) => Some(why),
                None => control.ended()?,
            },
        };
        why.map_or(Ok(()), |why| Err(self.kind.fault(why)))
    }

    /// Processor time of all its threads so far, in seconds.
    ///
    /// # Errors
    /// [`Failure::Environment`] if it is gone.
    pub fn cpu_s(&self) -> Result<f64, Failure> {
        match &self.server {
            Server::Rtpengine { process, .. } => cpu_s(process.pid()),
            Server::Penstock { plane, control } => Ok(cpu_s(plane.pid())? + cpu_s(control.pid())?),
        }
    }

    /// Ends the calls and then the relay.
    ///
    /// # Errors
    /// See [`Kind::fault`], if calls are left; [`Failure::Void`] if Penstock does not end well.
    pub fn end(mut self) -> Result<(), Failure> {
        for call in 0..self.calls {
            let deleted = self.ng.delete(&id(call));
            self.alive()?;
            deleted?;
        }
        if !self.ng.no_calls()? {
            let kind = self.kind;
            return Err(kind.fault("calls are left that were deleted".into()));
        }
        match self.server {
            Server::Rtpengine { process, .. } => {
                drop(process);
                Ok(())
            }
            Server::Penstock { plane, control } => {
                control.stop()?;
                plane.stop()
            }
        }
    }
}

fn id(call: usize) -> String {
    format!("bench-{call}")
}

/// Phone number `n`, behind the gateway.
fn phone(n: usize) -> SocketAddr {
    (Ipv4Addr::from_bits(0x0a00_0002 + n as u32), 40_000).into()
}

fn penstock(
    args: &Args,
    bench: &Bench,
    kind: Kind,
    polling: &str,
    ng: &Ng,
) -> Result<Server, Failure> {
    let rings = match kind {
        // A wait of a millisecond is no loss, as it is none for a kernel's socket.
        Kind::AfPacket => ",framecnt=4096",
        _ => "",
    };
    let device = format!("{}0,iface={FAR}{rings}", kind.name());
    let config = format!(
        "{}[control]\nng = \"{SERVER}\"\nsocket = \"{}\"\nstore = \"{}\"\n\
         [timeouts]\nstart_s = 0\nsilence_s = 0\nhold_s = 0\none_way_s = 0\n",
        bench.port(&device),
        bench.file("control.sock").display(),
        bench.file("calls.journal").display(),
    );
    let plane = bench.start_on(&config, polling)?;
    let control = control::start(args, bench, ng)?;
    Ok(Server::Penstock { plane, control })
}

/// The relay's address as one of the kernel's, and the gateway's, which is never asked for.
struct Address;

impl Address {
    fn take() -> Result<Address, Failure> {
        let (ours, gateway) = (FAMILY.local(0).to_string(), FAMILY.gateway().to_string());
        let net = format!("{ours}/{}", FAMILY.prefix());
        ip(&["addr", "add", &net, "dev", FAR])?;
        let address = Address;
        let at = mac(NEIGHBOUR_MAC);
        ip(&[
            "neigh",
            "add",
            &gateway,
            "lladdr",
            &at,
            "dev",
            FAR,
            "nud",
            "permanent",
        ])?;
        ip(&["route", "add", "default", "via", &gateway])?;
        Ok(address)
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        // The route goes with it.
        let _ = ip(&["addr", "flush", "dev", FAR]);
        let _ = ip(&["neigh", "flush", "dev", FAR, "nud", "permanent"]);
    }
}
