//! Checks by TLS.

use std::net::IpAddr;

use super::*;
use crate::model::{PoolTls, Protocol, TlsVersion};
use crate::net::tls::fixture::{self, Authority};
use crate::net::tls::{ServerTls, TlsStream};

/// A server whose certificate is for its address, and settings that know who signed it.
struct Ends {
    server: ServerTls,
    client: Arc<ClientTls>,
}

fn ends() -> Ends {
    let dir = tempfile::tempdir().expect("a directory");
    let authority = Authority::new("ours");
    let address = IpAddr::from(Ipv4Addr::LOCALHOST).to_string();
    let files = fixture::write(dir.path(), "a", &authority.host(&[&address]));
    let server =
        ServerTls::load(Protocol::Https, &fixture::listener(vec![files]), None).expect("loads");
    let pool = PoolTls {
        ca: Some(fixture::file(dir.path(), "ca.pem", authority.pem())),
        server_name: None,
        certificate: None,
        verify: true,
        min_version: TlsVersion::Tls12,
    };
    let client = ClientTls::load(&pool, UpstreamVersion::Http1).expect("loads");
    Ends { server, client: Arc::new(client) }
}

/// The probe of a server that makes a handshake and answers one request.
async fn probed(
    server: &ServerTls,
    check: HealthCheck,
    tls: Option<Arc<ClientTls>>,
) -> Result<(), ProbeError> {
    let (listener, address) = listener().await;
    let order = order(address, check, LONG);
    let health = HealthSettings { tls: true, ..order.pool.health.clone() };
    let order = ProbeOrder { pool: Arc::new(Pool { health, ..Pool::clone(&order.pool) }), ..order };
    let serve = async {
        let (socket, _) = listener.accept().await.expect("a connection");
        let tls = TlsStream::server(socket, Arc::clone(server.config())).expect("a server");
        if tls.handshake().await.is_err() {
            return;
        }
        let mut stream = Stream::from(tls);
        let mut asked = vec![0; 4096];
        if stream.read(&mut asked).await.is_ok_and(|n| n > 0) {
            let _ = stream.write_all(FINE).await;
            let _ = stream.read(&mut asked).await;
        }
    };
    let prober = Prober::new(Clock::start());
    let (outcome, ()) = tokio::join!(prober.probe(&order, tls), serve);
    outcome.map(|_| ())
}

#[tokio::test]
async fn who_is_to_be_verified_is() {
    let (ends, others) = (ends(), ends());
    let tcp = || HealthCheck::Tcp;
    for check in [http, tcp] {
        let ours = Some(Arc::clone(&ends.client));
        assert_eq!(probed(&ends.server, check(), ours).await, Ok(()));
        let foreign = probed(&ends.server, check(), Some(Arc::clone(&others.client))).await;
        assert!(
            matches!(&foreign, Err(error @ ProbeError::Tls(why))
                if why.contains("invalid peer certificate") && !error.is_answer()),
            "{foreign:?}"
        );
        assert_eq!(probed(&ends.server, check(), None).await, Ok(()), "nobody is named");
    }
}

#[tokio::test]
async fn who_does_not_speak_it_does_not_pass() {
    let (listener, address) = listener().await;
    let order = order(address, HealthCheck::Tcp, LONG);
    let health = HealthSettings { tls: true, ..order.pool.health.clone() };
    let order = ProbeOrder { pool: Arc::new(Pool { health, ..Pool::clone(&order.pool) }), ..order };
    let serve = async {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        let _ = socket.read_to_end(&mut Vec::new()).await;
    };
    let prober = Prober::new(Clock::start());
    let (outcome, ()) = tokio::join!(prober.probe(&order, None), serve);
    assert!(matches!(&outcome, Err(ProbeError::Tls(_))), "{outcome:?}");
}
