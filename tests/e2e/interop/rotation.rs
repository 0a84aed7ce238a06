//! Certificates that are replaced while clients come, go and stay: none of them notices but by the
//! new certificate.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::authority::Authority;
use crate::daemon::{Daemon, eventually, free_address};
use crate::http::OK;
use crate::interop::listener;
use crate::origin::Origin;
use crate::tools::tell;

/// Until new handshakes show what is in the files: they are looked at every two seconds, and read when
/// they have stayed as they are for as long. Where clients take all of the machine its seconds are longer.
const SOON: Duration = Duration::from_secs(30);

/// A client's connection under TLS.
type Stream = StreamOwned<ClientConnection, TcpStream>;

/// Clients of one address that go on until they are told to stop.
struct Load {
    address: SocketAddr,
    config: Arc<ClientConfig>,
    /// The certificates that may be shown, in their order.
    known: Vec<CertificateDer<'static>>,
    stop: AtomicBool,
    /// Which of them was shown last.
    shown: AtomicUsize,
    requests: AtomicUsize,
    handshakes: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

fn client_config(authority: &Authority, resumption: Resumption) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(authority.ca()).expect("a certificate");
    roots.add(ca).expect("an authority");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = resumption;
    Arc::new(config)
}

impl Load {
    /// A connection whose handshake is done.
    fn connect(&self, config: &Arc<ClientConfig>) -> Result<Stream, String> {
        let told = |err: &dyn std::fmt::Display| format!("handshake: {err}");
        let mut socket = TcpStream::connect(self.address).map_err(|err| told(&err))?;
        socket.set_read_timeout(Some(Duration::from_secs(10))).map_err(|err| told(&err))?;
        let name = ServerName::try_from("localhost").expect("a name");
        let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(|err| told(&err))?;
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).map_err(|err| told(&err))?;
        }
        Ok(Stream::new(tls, socket))
    }

    /// One request and its response.
    fn ask(&self, stream: &mut Stream) -> Result<(), String> {
        let request = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
        stream.write_all(request).map_err(|err| format!("request: {err}"))?;
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nok") {
            let mut piece = [0; 1_024];
            match stream.read(&mut piece) {
                Ok(0) => return Err("response: the end".into()),
                Ok(n) => answer.extend_from_slice(&piece[..n]),
                Err(err) => return Err(format!("response: {err}")),
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200 ") {
            return Err(String::from_utf8_lossy(&answer).into_owned());
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A connection of its own for each request; full handshakes say which certificate is shown.
    fn come_and_go(&self, config: &Arc<ClientConfig>) -> Result<(), String> {
        let mut stream = self.connect(config)?;
        let shown = stream.conn.peer_certificates().and_then(|chain| chain.first());
        let shown = shown.and_then(|it| self.known.iter().position(|known| known == it));
        self.ask(&mut stream)?;
        // Who resumes is shown none, and goes by what it was shown before.
        if stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Full) {
            self.shown.store(shown.ok_or("an unknown certificate")?, Ordering::Relaxed);
        }
        self.handshakes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn note(&self, outcome: Result<(), String>) {
        if let Err(failure) = outcome {
            let mut failures = self.failures.lock().expect("whole");
            // There must be none: the first few are enough to tell why.
            if failures.len() < 20 {
                failures.push(failure);
            }
        }
    }
}

/// Three clients that stay on their connection, two that make a new one for each request, and one of
/// these that resumes its sessions.
fn start(load: &Arc<Load>, resuming: &Arc<ClientConfig>) -> Vec<JoinHandle<()>> {
    let stays = |load: Arc<Load>| {
        let talk = || {
            let mut stream = load.connect(&load.config)?;
            while !load.is_over() {
                load.ask(&mut stream)?;
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        };
        load.note(talk());
    };
    let comes = |load: Arc<Load>, config: Arc<ClientConfig>| {
        while !load.is_over() {
            load.note(load.come_and_go(&config));
        }
    };
    let mut threads = Vec::new();
    for _ in 0..3 {
        let load = Arc::clone(load);
        threads.push(std::thread::spawn(move || stays(load)));
    }
    for config in [&load.config, &load.config, resuming] {
        let (load, config) = (Arc::clone(load), Arc::clone(config));
        threads.push(std::thread::spawn(move || comes(load, config)));
    }
    threads
}

/// Replaces a file at once.
fn replace(path: &Path, text: &str) {
    let aside = path.with_extension("new");
    fs::write(&aside, text).expect("written");
    fs::rename(&aside, path).expect("renamed");
}

#[test]
fn certificates_are_replaced_under_load_without_a_failed_request() {
    let authority = Authority::new("tests");
    let names = ["localhost", "127.0.0.1"];
    let files = authority.issue("rotated", &names);
    let first = fs::read_to_string(&files.cert).expect("written");
    let others: Vec<(String, String)> =
        (1..=4).map(|n| authority.sign(&format!("rotated {n}"), &names)).collect();
    let known = std::iter::once(&first).chain(others.iter().map(|(cert, _)| cert));
    let known = known.map(|pem| CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM"));
    let origin = Origin::answering(OK);
    let bind = free_address();
    let daemon = Daemon::start(&listener("web", bind, origin.address, &files.https()));
    let load = Arc::new(Load {
        address: bind,
        config: client_config(&authority, Resumption::disabled()),
        known: known.collect(),
        stop: AtomicBool::new(false),
        shown: AtomicUsize::new(usize::MAX),
        requests: AtomicUsize::new(0),
        handshakes: AtomicUsize::new(0),
        failures: Mutex::default(),
    });
    let threads = start(&load, &client_config(&authority, Resumption::in_memory_sessions(8)));
    let shows = |number: usize, what: &str| {
        let began = Instant::now();
        eventually(what, SOON, || (load.shown.load(Ordering::Relaxed) == number).then_some(()));
        began.elapsed()
    };
    shows(0, "the first one");
    let mut took = Vec::new();
    for (number, (cert, key)) in (1..).zip(&others[..3]) {
        replace(&files.cert, cert);
        // For a while the two do not belong together, as it is wherever they are replaced.
        std::thread::sleep(Duration::from_millis(300 * (number - 1)));
        replace(&files.key, key);
        took.push(shows(number as usize, "a new one"));
    }
    // Somebody writes in place, and takes long.
    let (cert, key) = &others[3];
    let half = cert.len() / 2;
    fs::write(&files.cert, &cert[..half]).expect("written");
    std::thread::sleep(Duration::from_secs(3));
    daemon.signal(Signal::HUP);
    eventually("a reload is refused", SOON, || {
        (daemon.metric("tidegate_config_reloads_total", "failure") == 1.0).then_some(())
    });
    let handshakes = load.handshakes.load(Ordering::Relaxed);
    eventually("handshakes go on", SOON, || {
        (load.handshakes.load(Ordering::Relaxed) > handshakes + 20).then_some(())
    });
    assert_eq!(load.shown.load(Ordering::Relaxed), 3, "half a certificate is none");
    fs::write(&files.cert, cert).expect("written");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(load.shown.load(Ordering::Relaxed), 3, "a certificate without its key is none");
    fs::write(&files.key, key).expect("written");
    took.push(shows(4, "what was written slowly"));
    load.stop.store(true, Ordering::Relaxed);
    for thread in threads {
        thread.join().expect("a client ends");
    }
    let failures = load.failures.lock().expect("whole");
    assert!(failures.is_empty(), "{failures:#?}");
    let (requests, handshakes) =
        (load.requests.load(Ordering::Relaxed), load.handshakes.load(Ordering::Relaxed));
    assert!(requests > 500 && handshakes > 200, "{requests} requests, {handshakes} handshakes");
    assert_eq!(daemon.metric("tidegate_failures_total", ""), 0.0);
    tell(&format!("{requests} requests, {handshakes} handshakes; seen after {took:?}"));
}
