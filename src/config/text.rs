//! The kinds of values that are text with a shape: names, addresses, paths, hosts.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::{IpNet, Ipv4Net};
use toml::de::DeValue;

use crate::config::later;
use crate::config::scalar::{Printed, Scalar, Wrong, text, whole, wrong, wrong_but};
use crate::config::{AccessTo, AdminBind};
use crate::model::HostPattern;

/// A name of a pool, a listener, an instance or a zone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Name(pub String);

/// The longest name, in bytes.
const LONGEST_NAME: usize = 64;

impl Name {
    /// Checks that `text` may be a name: it becomes a label, a file name, and part of URLs.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn checked(text: &str) -> Result<Self, Wrong> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
        if text.is_empty() {
            return Err(wrong("a name must not be empty"));
        }
        if let Some(bad) = text.chars().find(|c| !allowed(*c)) {
            let hint = "a name has letters, digits and . _ : - only";
            return Err(wrong_but(format!("{bad:?} must not be in a name"), hint));
        }
        if text.len() > LONGEST_NAME {
            return Err(wrong(format!("a name has at most {LONGEST_NAME} characters")));
        }
        if text.chars().all(|c| c == '.') {
            return Err(wrong("a name must not be only dots"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl Scalar for Name {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        Self::checked(text(value, "a name")?)
    }
}

impl Printed for Name {
    fn print(&self) -> String {
        self.0.print()
    }
}

impl Scalar for String {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value, "a string")? {
            "" => Err(wrong("must not be empty")),
            text => Ok(text.to_owned()),
        }
    }
}

impl Printed for String {
    fn print(&self) -> String {
        format!("{self:?}")
    }
}

impl Scalar for PathBuf {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value, "a path")? {
            "" => Err(wrong("must not be empty")),
            text => Ok(Self::from(text)),
        }
    }
}

impl Printed for PathBuf {
    fn print(&self) -> String {
        self.display().to_string().print()
    }
}

/// Whom a certificate is for: a DNS name or an IP address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerName(pub String);

impl Scalar for ServerName {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let name = text(value, "a name such as \"app.internal\"")?;
        // RFC 1123 §2.1, and the underscore that is found in the wild.
        let is_label = |label: &str| {
            let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            (1..=63).contains(&label.len())
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_dns = name.len() <= 253
            && name.split('.').all(is_label)
            && !name.split('.').next_back().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
        if !is_dns && name.parse::<IpAddr>().is_err() {
            let hint = "write it like \"app.internal\", without a port or a wildcard";
            return Err(wrong_but(
                format!("{name:?} is neither a DNS name nor an IP address"),
                hint,
            ));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl Printed for ServerName {
    fn print(&self) -> String {
        self.0.print()
    }
}

/// A port that something can listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Port(pub u16);

impl Scalar for Port {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let port = whole(value, 1, u32::from(u16::MAX))?;
        u16::try_from(port).map(Self).map_err(|_| wrong("is not a port"))
    }
}

impl Printed for Port {
    fn print(&self) -> String {
        self.0.to_string()
    }
}

/// An address to listen on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bind(pub SocketAddr);

impl Scalar for Bind {
    const MAY_STAND_ALONE: bool = true;

    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let bind = parse_bind(text(value, "an address such as \"0.0.0.0:8080\"")?)?;
        if bind.port() == 0 {
            return Err(wrong("port 0 is none that clients could find"));
        }
        Ok(Self(bind))
    }
}

impl Printed for Bind {
    fn print(&self) -> String {
        self.0.to_string().print()
    }
}

fn parse_bind(text: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let problem = format!("{text:?} is not an IP address with a port");
    let (host, port) = text.rsplit_once(':').unwrap_or(("", text));
    let ip = match host {
        "" | "*" => "0.0.0.0",
        "localhost" => "127.0.0.1",
        _ => return Err(wrong_but(problem, "write it like \"0.0.0.0:8080\" or \"[::]:8080\"")),
    };
    match port.parse::<u16>() {
        Ok(port) => Err(wrong_but(problem, format!("did you mean \"{ip}:{port}\"?"))),
        Err(_) => Err(wrong_but(problem, "write it like \"0.0.0.0:8080\" or \"[::]:8080\"")),
    }
}

impl Scalar for AdminBind {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "an address such as \"127.0.0.1:9900\" or \"unix:PATH\"")?;
        match text.strip_prefix("unix:") {
            Some("") => Err(wrong_but("has no path", "write it like \"unix:/run/tidegate.sock\"")),
            Some(path) => Ok(Self::Unix(PathBuf::from(path))),
            None => match parse_bind(text)? {
                address if address.ip().is_loopback() => Ok(Self::Tcp(address)),
                address => Err(wrong_but(
                    format!(
                        "{address} is not a loopback address: it would need token_file and TLS, \
                         and TLS on the admin API is {}",
                        later::sentence("TLS")
                    ),
                    format!("did you mean \"127.0.0.1:{}\"?", address.port()),
                )),
            },
        }
    }
}

impl Printed for AdminBind {
    fn print(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string().print(),
            Self::Unix(path) => format!("unix:{}", path.display()).print(),
        }
    }
}

impl Scalar for AccessTo {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        match text(value, "\"off\", \"stdout\" or the path of a file")? {
            "off" => Ok(Self::Off),
            "stdout" => Ok(Self::Stdout),
            "" => Err(wrong_but("has no path", "write \"off\", \"stdout\" or a file")),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }
}

impl Printed for AccessTo {
    fn print(&self) -> String {
        match self {
            Self::Off => "off".to_owned().print(),
            Self::Stdout => "stdout".to_owned().print(),
            Self::File(path) => path.print(),
        }
    }
}

/// The address of an instance; without a port it has its pool's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    /// The host.
    pub ip: IpAddr,
    /// The port, if it was written.
    pub port: Option<u16>,
}

impl Scalar for Address {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "an address such as \"10.0.1.4:80\"")?;
        let address = match text.parse::<SocketAddr>() {
            Ok(address) => Self { ip: address.ip(), port: Some(address.port()) },
            Err(_) => Self { ip: parse_ip(text)?, port: None },
        };
        if address.port == Some(0) {
            return Err(wrong("port 0 is none that an instance could listen on"));
        }
        if address.ip.is_unspecified() || address.ip.is_multicast() {
            return Err(wrong(format!("{} is not the address of one machine", address.ip)));
        }
        Ok(address)
    }
}

/// An IP address without a port; an IPv6 one may be in brackets.
fn parse_ip(text: &str) -> Result<IpAddr, Wrong> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = bare.parse() {
        return Ok(ip);
    }
    let host = text.rsplit_once(':').map_or(text, |(host, _)| host);
    let is_host_name = check_labels(&host.to_ascii_lowercase()).is_ok()
        && host.contains(|c: char| c.is_ascii_alphabetic());
    if is_host_name {
        let problem = format!("the host name {host:?} is {}", later::sentence("discovery by DNS"));
        return Err(wrong_but(problem, "write an IP address"));
    }
    Err(wrong_but(format!("{text:?} is not an IP address"), "write it like \"10.0.1.4:80\""))
}

impl Printed for Address {
    fn print(&self) -> String {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).to_string().print(),
            None => self.ip.to_string().print(),
        }
    }
}

/// A network, or one address as the smallest there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Network(pub IpNet);

impl Scalar for Network {
    const MAY_STAND_ALONE: bool = true;
    const LIST_MAY_BE_EMPTY: bool = true;

    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "a network such as \"10.0.0.0/8\" or an address")?;
        let read = text.parse::<IpNet>().ok();
        let Some(net) = read.or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from)) else {
            let hint = "write it like \"10.0.0.0/8\", \"2001:db8::/32\" or \"192.0.2.7\"";
            return Err(wrong_but(format!("{text:?} is neither a network nor an address"), hint));
        };
        if net.trunc() != net {
            let problem = format!("{text:?} has bits set that are not of the network");
            return Err(wrong_but(problem, format!("did you mean \"{}\"?", net.trunc())));
        }
        if let IpNet::V6(v6) = net
            && v6.prefix_len() >= 96
            && let Some(v4) = v6.addr().to_ipv4_mapped()
        {
            let meant = print_network(Ipv4Net::new_assert(v4, v6.prefix_len() - 96).into());
            let problem = format!("{text:?} is an IPv4 network in IPv6 clothes");
            return Err(wrong_but(problem, format!("write \"{meant}\"")));
        }
        Ok(Self(net))
    }
}

/// The network, or the address if it is but one.
fn print_network(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

impl Printed for Network {
    fn print(&self) -> String {
        print_network(self.0).print()
    }
}

/// An address of this machine that connections come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source(pub IpAddr);

impl Scalar for Source {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let text = text(value, "an address such as \"10.0.0.9\"")?;
        if let Ok(address) = text.parse::<SocketAddr>() {
            let hint = format!("the kernel picks the port: write \"{}\"", address.ip());
            return Err(wrong_but(format!("{text:?} has a port"), hint));
        }
        match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() || ip.is_multicast() => {
                let hint = "leave it out to let the kernel choose";
                Err(wrong_but(format!("{ip} is not the address of one machine"), hint))
            }
            Ok(ip) => Ok(Self(ip)),
            Err(_) => Err(wrong_but(
                format!("{text:?} is not an IP address"),
                "write it like \"10.0.0.9\"",
            )),
        }
    }
}

impl Printed for Source {
    fn print(&self) -> String {
        self.0.to_string().print()
    }
}

impl Scalar for HostPattern {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let host = text(value, "a host such as \"api.example.com\"")?.to_ascii_lowercase();
        if host == "*" {
            return Err(wrong_but("is not a host pattern", "leave host out to match any host"));
        }
        if let Some(rest) = host.strip_prefix('*') {
            let labels = rest.strip_prefix('.').ok_or_else(|| {
                wrong_but("after * there must be a dot", "write it like \"*.example.com\"")
            })?;
            return check_labels(labels).map(|()| Self::Suffix(rest.to_owned()));
        }
        if let Some(inside) = host.strip_prefix('[') {
            return match inside.strip_suffix(']').map(str::parse::<Ipv6Addr>) {
                Some(Ok(_)) => Ok(Self::Exact(host)),
                _ => Err(wrong(format!("{host:?} is not an IPv6 address in brackets"))),
            };
        }
        check_labels(&host).map(|()| Self::Exact(host))
    }
}

/// Checks that `host`, in lower case, is a host name or an IPv4 address.
fn check_labels(host: &str) -> Result<(), Wrong> {
    if let Some((name, port)) = host.rsplit_once(':')
        && port.parse::<u16>().is_ok()
    {
        let hint = format!("hosts are compared without a port: write {name:?}");
        return Err(wrong_but("has a port", hint));
    }
    if host.ends_with('.') {
        return Err(wrong_but("ends in a dot", "hosts are compared without the last dot"));
    }
    if !host.is_ascii() {
        let hint = "write international names in their \"xn--\" form";
        return Err(wrong_but("has characters that are not ASCII", hint));
    }
    let label_is_good = |label: &str| {
        let good = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        (1..=63).contains(&label.len())
            && label.bytes().all(good)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if host.len() > 253 || !host.split('.').all(label_is_good) {
        let hint = "write it like \"api.example.com\" or \"*.example.com\"";
        return Err(wrong_but(format!("{host:?} is not a host name"), hint));
    }
    Ok(())
}

impl Printed for HostPattern {
    fn print(&self) -> String {
        match self {
            Self::Any => "*".to_owned().print(),
            Self::Exact(host) => host.print(),
            Self::Suffix(suffix) => format!("*{suffix}").print(),
        }
    }
}

/// The path of a URL, or the start of one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UrlPath(pub String);

impl Scalar for UrlPath {
    fn parse(value: &DeValue<'_>) -> Result<Self, Wrong> {
        let path = text(value, "a path such as \"/\"")?;
        if !path.starts_with('/') {
            return Err(wrong_but(
                format!("{path:?} does not start with a slash"),
                format!("did you mean \"/{path}\"?"),
            ));
        }
        match path.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            Some(bad) => Err(wrong_but(
                format!("{bad:?} never is in the path of a request"),
                "write it percent-encoded",
            )),
            None => Ok(Self(path.to_owned())),
        }
    }
}

impl Printed for UrlPath {
    fn print(&self) -> String {
        self.0.print()
    }
}
