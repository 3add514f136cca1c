//! What nginx is told of an app, all of it the server's to say.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::inputs::Inputs;
use super::values::{Bytes, Limit, ServerPath, read_from_text};
use crate::support::{Error, Result};

/// The web server before the door.
#[derive(Clone, Debug)]
pub struct Nginx {
    /// The file that receiver writes; nginx reads it by an `include` of its configuration.
    pub site: Option<PathBuf>,
    /// The main configuration, where it is not nginx's own.
    pub config: Option<PathBuf>,
    /// With what it speaks TLS.
    pub certificate: Option<Certificate>,
    /// The directory in which an ACME client, such as certbot, puts what it is asked for.
    pub challenge: PathBuf,
    /// Bytes of the largest request body.
    pub max_body: u64,
    /// How long the application may be silent, what it is held at the door not counted.
    pub timeout: Duration,
    /// Where it listens for HTTP.
    pub listen: Vec<Listen>,
    /// Where it listens for TLS, where there is a certificate.
    pub listen_tls: Vec<Listen>,
}

/// With what nginx speaks TLS; it reads both files itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The chain.
    pub chain: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl Nginx {
    pub(super) fn from(from: &Inputs) -> Result<Nginx> {
        let path =
            |key| Ok::<_, Error>(from.get::<ServerPath>(&["nginx", key])?.map(|ServerPath(path)| path));
        let certificate = path("certificate")?.zip(path("certificate_key")?);
        Ok(Nginx {
            site: path("site")?,
            config: path("config")?,
            certificate: certificate.map(|(chain, key)| Certificate { chain, key }),
            challenge: from.want::<ServerPath>(&["nginx", "challenge"])?.0,
            max_body: from.want::<Bytes>(&["nginx", "max_body"])?.0,
            timeout: from.want::<Limit>(&["nginx", "timeout"])?.0,
            listen: from.want(&["nginx", "listen"])?,
            listen_tls: from.want(&["nginx", "listen_tls"])?,
        })
    }
}

/// Where nginx listens: a port of every address, or one address and its port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A port of every address that the machine has.
    Port(u16),
    /// One address.
    Address(std::net::SocketAddr),
}
read_from_text!(Listen, "a port or an address, such as \"80\", \"127.0.0.1:8080\" or \"[::1]:8080\"");

impl FromStr for Listen {
    type Err = String;

    /// Text to where nginx listens. The error completes the sentence "'TEXT' …".
    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        let port = text.parse::<u16>().ok().filter(|_| digits).map(Listen::Port);
        let address = || text.parse().ok().map(Listen::Address);
        port.or_else(address).filter(|listen| listen.port() > 0).ok_or_else(|| {
            "is neither a port nor an address with one: write \"80\", \"127.0.0.1:8080\" or \"[::1]:8080\""
                .to_owned()
        })
    }
}

impl Listen {
    /// The port.
    pub fn port(self) -> u16 {
        match self {
            Listen::Port(port) => port,
            Listen::Address(address) => address.port(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nginx_listens_at_ports_and_addresses() {
        assert_eq!("80".parse(), Ok(Listen::Port(80)));
        assert_eq!("[::1]:8080".parse::<Listen>().map(Listen::port), Ok(8080));
        for bad in [
            "",
            "0",
            "65536",
            "+80",
            "80;",
            "*:80",
            "localhost:80",
            "127.0.0.1",
            "127.0.0.1:0",
            "80 ssl",
            "unix:/x",
        ] {
            assert!(bad.parse::<Listen>().is_err(), "{bad:?}");
        }
    }
}
