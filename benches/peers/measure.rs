//! Starting a peer, and taking a sample of it.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use tidegate::base::Clock;

use crate::config::Setup;
use crate::load::{Order, Outcome, Pace};
use crate::peer::Peer;
use crate::proc::{self, Memory};
use crate::process::Process;
use crate::sample::{Mode, Sample};
use crate::scenario::{Kind, Layer, Scenario};
use crate::tls;
use crate::wire::Wire;

/// How long a process may take to be ready.
const PATIENCE: Duration = Duration::from_secs(20);
/// Before anything is counted: connections are made, buffers and caches have found their sizes.
const WARMUP: Duration = Duration::from_millis(700);
/// For a process that has just been started, or has just got its connections, to come to rest.
const REST: Duration = Duration::from_secs(1);

/// Where everything runs.
pub struct Place {
    /// The CPU of the proxy.
    pub proxy_cpu: usize,
    /// The CPU of the load and the origin.
    pub load_cpu: usize,
    /// For configurations and logs.
    pub folder: PathBuf,
    /// The certificate of all peers, with its key.
    pub certificate: PathBuf,
    /// The origin's port.
    pub origin: u16,
    /// The port of instances that can be lost.
    pub zones: u16,
    /// For each peer, where it listens.
    pub ports: [u16; Peer::ALL.len()],
    /// For the peer that has an admin API.
    pub admin: u16,
}

/// A peer that runs.
pub struct Running {
    /// Whom.
    pub peer: Peer,
    process: Process,
    listen: SocketAddr,
}

impl Place {
    /// Starts the origin.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn origin(&self) -> Result<Process, String> {
        let command = own(&["origin", &self.origin.to_string()])?;
        let log = self.folder.join("origin.log");
        let process = Process::logged(self.load_cpu, &command, &log).map_err(|e| e.to_string())?;
        wait(&process, SocketAddr::from((Ipv4Addr::LOCALHOST, self.origin)), None)
            .map_err(|why| format!("origin: {why}"))?;
        Ok(process)
    }

    /// Starts a peer for a scenario.
    ///
    /// # Errors
    /// Why it does not come up.
    pub fn start(&self, peer: Peer, program: PathBuf, for_: &Scenario) -> Result<Running, String> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[peer as usize]));
        // Each peer has instances of its own.
        let address = |number: usize| {
            let (high, low) = ((number / 250) as u8, (number % 250) as u8 + 1);
            SocketAddr::from(([127, 10 + peer as u8, high, low], self.origin))
        };
        let folder = self.folder.join(peer.name());
        let setup = Setup {
            program,
            layer: for_.layer,
            listen,
            admin: SocketAddr::from((Ipv4Addr::LOCALHOST, self.admin)),
            instances: (0..for_.instances).map(address).collect(),
            certificate: self.certificate.clone(),
            floor_splices: for_.floor_splices,
            folder: folder.clone(),
        };
        let started = || {
            fs::create_dir_all(&folder)?;
            let is_https = for_.layer == Layer::Https;
            let tls = is_https.then(|| tls::client(&self.certificate)).transpose()?;
            let command = setup.command(peer)?;
            Ok((tls, Process::logged(self.proxy_cpu, &command, &folder.join("log"))?))
        };
        let (tls, process) = started().map_err(|error: io::Error| error.to_string())?;
        wait(&process, listen, tls.as_ref()).map_err(|why| {
            let log = fs::read_to_string(folder.join("log")).unwrap_or_default();
            let last = log.lines().rev().find(|line| !line.trim().is_empty());
            last.map_or_else(|| why.clone(), |last| format!("{why}: {last}"))
        })?;
        Ok(Running { peer, process, listen })
    }

    /// Loads a peer as the scenario says.
    ///
    /// # Errors
    /// What failed.
    pub fn sample(
        &self,
        running: &Running,
        scenario: &Scenario,
        (round, mode): (usize, Mode),
        (window, pace): (Duration, Pace),
    ) -> Result<Sample, String> {
        let order = Order {
            address: running.listen,
            client: scenario.client,
            certificate: self.certificate.clone(),
            exchange: scenario.exchange,
            connections: scenario.connections,
            warmup: WARMUP,
            window,
            pace,
        };
        if scenario.kind == Kind::Idle {
            std::thread::sleep(REST);
        }
        let proxy = running.process.id();
        let empty = proc::memory(proxy);
        let order = serde_json::to_string(&order).map_err(|error| error.to_string())?;
        let command = own(&["load", &order])?;
        let (_load, input, output) =
            Process::piped(self.load_cpu, &command).map_err(|error| error.to_string())?;
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        lines.next().ok_or("the load generator failed")?;
        let before = proc::cpu(proxy);
        // While connections are held, the load generator waits for its input to end.
        let held = if scenario.kind == Kind::Idle {
            std::thread::sleep(REST);
            proc::memory(proxy)
        } else {
            Memory::default()
        };
        drop(input);
        let last = lines.next().ok_or("the load generator failed")?;
        let cpu = proc::cpu(proxy) - before;
        let outcome: Outcome = serde_json::from_str(&last).map_err(|error| error.to_string())?;
        if outcome.requests == 0 {
            return Err("no request was answered".to_owned());
        }
        let memory = if scenario.kind == Kind::Idle { held } else { proc::memory(proxy) };
        Ok(Sample {
            scenario: scenario.name,
            peer: running.peer,
            round,
            mode,
            outcome,
            cpu,
            memory,
            grown: held.pss as f64 - empty.pss as f64,
        })
    }
}

/// A command line of this program's own.
///
/// # Errors
/// If it cannot be found any more.
pub fn own(words: &[&str]) -> Result<Vec<String>, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let words = words.iter().map(|word| (*word).to_owned());
    Ok(std::iter::once(program.display().to_string()).chain(words).collect())
}

/// Waits until a response comes from behind `address`, under TLS if there are settings for it.
///
/// # Errors
/// If the process ended, or took too long.
pub fn wait(
    process: &Process,
    address: SocketAddr,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<(), String> {
    let clock = Clock::start();
    while clock.elapsed() < PATIENCE {
        if process.ended() {
            return Err("it ended".to_owned());
        }
        if answers(address, tls).is_ok_and(|right| right) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err("it was not ready in time".to_owned())
}

fn answers(address: SocketAddr, tls: Option<&Arc<ClientConfig>>) -> io::Result<bool> {
    let socket = TcpStream::connect_timeout(&address, PATIENCE)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut wire = Wire::new(socket, tls)?;
    wire.write_all(b"GET /b/100 HTTP/1.1\r\nHost: bench.test\r\nConnection: close\r\n\r\n")?;
    let mut response = Vec::new();
    wire.read_to_end(&mut response)?;
    Ok(response.starts_with(b"HTTP/1.1 200"))
}
