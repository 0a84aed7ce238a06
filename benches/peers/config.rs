//! How each peer is set up, as those who know it would: one worker, connections to instances kept in
//! a pool that is large enough, no access log, limits out of the way, bytes spliced in TCP mode.

use std::fmt::Write;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::peer::{Peer, says};
use crate::scenario::Layer;

/// What a peer is to do.
pub struct Setup {
    /// Its program.
    pub program: PathBuf,
    /// Whether it is to read requests.
    pub layer: Layer,
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where an admin API may listen.
    pub admin: SocketAddr,
    /// Where instances are.
    pub instances: Vec<SocketAddr>,
    /// For TLS: a certificate and its key in one file.
    pub certificate: PathBuf,
    /// Whether the floor splices.
    pub floor_splices: bool,
    /// A folder of its own.
    pub folder: PathBuf,
}

impl Setup {
    /// Writes the configuration and gives the command line.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn command(&self, peer: Peer) -> io::Result<Vec<String>> {
        let config = match peer {
            Peer::Tidegate => self.tidegate(),
            Peer::Haproxy => self.haproxy(),
            Peer::Nginx => self.nginx(),
            Peer::Envoy => self.envoy().to_string(),
            Peer::Floor => {
                let how = if self.floor_splices { "splice" } else { "copy" };
                let program = self.program.display().to_string();
                let words = [program, "floor".into(), how.into(), self.listen.to_string()];
                let instances = self.instances.iter().map(SocketAddr::to_string);
                return Ok(words.into_iter().chain(instances).collect());
            }
        };
        command(peer, &self.program, &self.folder, &config)
    }

    /// One line for each instance.
    fn lines(&self, line: impl Fn(usize, &SocketAddr) -> String) -> String {
        let mut lines = String::new();
        for (number, instance) in self.instances.iter().enumerate() {
            let _ = writeln!(lines, "{}", line(number, instance));
        }
        lines
    }

    fn tidegate(&self) -> String {
        let protocol = match self.layer {
            Layer::Http => "http",
            Layer::Https => "https",
            Layer::Tcp => "tcp",
        };
        let pem = self.certificate.display();
        let tls = match self.layer {
            Layer::Https => {
                format!("tls.certificates = [{{ cert = \"{pem}\", key = \"{pem}\" }}]\n")
            }
            Layer::Http | Layer::Tcp => String::new(),
        };
        let (listen, admin) = (self.listen, self.admin);
        let state = self.folder.display();
        let instances = self.lines(|_, at| format!("  {{ address = \"{at}\", zone = \"a\" }},"));
        format!(
            r#"[node]
workers = 1
state_dir = "{state}"

[admin]
bind = "{admin}"

[[listener]]
bind = "{listen}"
protocol = "{protocol}"
pool = "bench"
{tls}
[pool.bench]
balance = "round-robin"
max_in_flight = 100000
health = {{ type = "none" }}
instances = [
{instances}]
"#
        )
    }

    fn haproxy(&self) -> String {
        let mode = match self.layer {
            Layer::Http | Layer::Https => {
                "mode http\n    option http-keep-alive\n    http-reuse always"
            }
            Layer::Tcp => "mode tcp\n    option splice-auto",
        };
        let pem = self.certificate.display();
        let tls = match self.layer {
            Layer::Https => format!(" ssl crt {pem} alpn h2,http/1.1"),
            Layer::Http | Layer::Tcp => String::new(),
        };
        let listen = self.listen;
        let servers = self.lines(|number, at| format!("    server s{number} {at}"));
        format!(
            "global
    nbthread 1
    maxconn 6000
defaults
    {mode}
    timeout connect 5s
    timeout client 120s
    timeout server 120s
    timeout http-keep-alive 120s
frontend clients
    bind {listen}{tls}
    default_backend instances
backend instances
    balance roundrobin
{servers}"
        )
    }

    fn nginx(&self) -> String {
        let (listen, folder) = (self.listen, self.folder.display());
        let servers = self.lines(|_, at| format!("        server {at} max_fails=0;"));
        let tls = self.nginx_tls();
        let kept = (2 * self.instances.len()).max(128);
        let (modules, block) = match self.layer {
            Layer::Tcp => (
                stream_module(&self.program),
                format!(
                    "stream {{
    upstream instances {{
{servers}    }}
    server {{
        listen {listen} backlog=4096;
        proxy_pass instances;
        proxy_buffer_size 64k;
    }}
}}"
                ),
            ),
            Layer::Http | Layer::Https => (
                String::new(),
                format!(
                    "http {{
    access_log off;
    keepalive_requests 1000000000;
    keepalive_timeout 120s;
    client_max_body_size 0;
    client_body_buffer_size 64k;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream instances {{
{servers}        keepalive {kept};
        keepalive_requests 1000000000;
    }}
    server {{
        listen {listen}{tls};
        location / {{
            proxy_pass http://instances;
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_request_buffering off;
            proxy_max_temp_file_size 0;
            proxy_buffer_size 16k;
            proxy_buffers 16 16k;
            proxy_busy_buffers_size 64k;
        }}
    }}
}}"
                ),
            ),
        };
        // The worker of a master that is root would become nobody, and could not use its folder.
        let user = if rustix::process::getuid().is_root() { "user root;\n" } else { "" };
        format!(
            "{modules}{user}daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {folder}/nginx.pid;
error_log stderr error;
events {{
    worker_connections 16384;
    multi_accept on;
}}
{block}
"
        )
    }

    /// What follows the address of a server for HTTP.
    fn nginx_tls(&self) -> String {
        if self.layer != Layer::Https {
            return " backlog=4096".to_owned();
        }
        // HTTP/2 was a word about the address once, and is a setting of the server now.
        let version = Peer::Nginx.version(&self.program);
        let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
        let version: [u32; 3] = std::array::from_fn(|_| numbers.next().unwrap_or(0));
        let (word, setting) =
            if version < [1, 25, 1] { (" http2", "") } else { ("", ";\n        http2 on") };
        let pem = self.certificate.display();
        // TLS 1.3 has to be named before nginx 1.23.4.
        format!(
            " ssl{word} backlog=4096{setting};
        ssl_protocols TLSv1.2 TLSv1.3;
        ssl_certificate {pem};
        ssl_certificate_key {pem}"
        )
    }

    fn envoy(&self) -> Value {
        let filter = |name: &str, kind: &str, mut config: Value| {
            config["@type"] = format!("type.googleapis.com/envoy.extensions.filters.{kind}").into();
            json!({ "name": name, "typed_config": config })
        };
        let chain = match self.layer {
            Layer::Tcp => filter(
                "tcp",
                "network.tcp_proxy.v3.TcpProxy",
                json!({ "stat_prefix": "tcp", "cluster": "instances" }),
            ),
            Layer::Http | Layer::Https => filter(
                "http",
                "network.http_connection_manager.v3.HttpConnectionManager",
                json!({
                    "stat_prefix": "http",
                    "generate_request_id": false,
                    "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [{
                        "match": { "prefix": "/" },
                        "route": { "cluster": "instances", "timeout": "0s" },
                    }]}]},
                    "http_filters": [filter(
                        "router",
                        "http.router.v3.Router",
                        json!({ "suppress_envoy_headers": true }),
                    )],
                }),
            ),
        };
        let mut chain = json!({ "filters": [chain] });
        if self.layer == Layer::Https {
            let pem = json!({ "filename": self.certificate.display().to_string() });
            chain["transport_socket"] = json!({
                "name": "tls",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                    "common_tls_context": {
                        "tls_certificates": [{ "certificate_chain": pem, "private_key": pem }],
                        "alpn_protocols": ["h2", "http/1.1"],
                    },
                },
            });
        }
        let address = |at: &SocketAddr| json!({ "socket_address": { "address": at.ip().to_string(), "port_value": at.port() } });
        let endpoints: Vec<Value> = self
            .instances
            .iter()
            .map(|at| json!({ "endpoint": { "address": address(at) } }))
            .collect();
        let most = 1_000_000;
        json!({ "static_resources": {
            "listeners": [{
                "name": "clients",
                "address": address(&self.listen),
                "tcp_backlog_size": 4096,
                "filter_chains": [chain],
            }],
            "clusters": [{
                "name": "instances",
                "type": "STATIC",
                "lb_policy": "ROUND_ROBIN",
                "connect_timeout": "5s",
                "circuit_breakers": { "thresholds": [{
                    "max_connections": most,
                    "max_pending_requests": most,
                    "max_requests": most,
                    "max_retries": most,
                }]},
                "load_assignment": {
                    "cluster_name": "instances",
                    "endpoints": [{ "lb_endpoints": endpoints }],
                },
            }],
        }})
    }
}

/// Writes a configuration into a folder and gives the command line of the peer that is to have it.
///
/// # Errors
/// If it cannot be written.
pub fn command(peer: Peer, program: &Path, folder: &Path, config: &str) -> io::Result<Vec<String>> {
    let path = folder.join(format!("{}.conf", peer.name()));
    // Envoy tells by the name what it reads.
    let path = if peer == Peer::Envoy { path.with_extension("json") } else { path };
    fs::write(&path, config)?;
    let [program, path, folder] = [program, &path, folder].map(|path| path.display().to_string());
    let words: Vec<&str> = match peer {
        Peer::Tidegate => vec!["run", "--config", &path],
        Peer::Haproxy => vec!["-db", "-f", &path],
        Peer::Nginx => vec!["-e", "stderr", "-p", &folder, "-c", &path],
        Peer::Envoy => {
            vec!["-c", &path, "--concurrency", "1", "--disable-hot-restart", "-l", "error"]
        }
        // It has none.
        Peer::Floor => Vec::new(),
    };
    Ok(std::iter::once(program.as_str()).chain(words).map(str::to_owned).collect())
}

/// The line that loads nginx' TCP proxy, where it is not built in.
fn stream_module(program: &Path) -> String {
    let built = says(program, "-V");
    let mut words = built.split_whitespace();
    let folder = words.clone().find_map(|word| word.strip_prefix("--modules-path="));
    match folder {
        Some(folder) if words.any(|word| word == "--with-stream=dynamic") => {
            format!("load_module {folder}/ngx_stream_module.so;\n")
        }
        _ => String::new(),
    }
}
