//! The certificate of an app's site, as far as receiver looks into it: when it ends, and which hosts it is for.
//!
//! An ACME client keeps it where only root gets in. On a server that was set up root is asked when it ends; what is only
//! root's elsewhere is nobody's business here.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use x509_cert::Certificate;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::hand;
use crate::app::App;
use crate::app::settings::Domain;
use crate::support::{Context, Error, Result};

/// No chain is longer.
const MOST: u64 = 1 << 20;

/// When the certificate of the app's site ends; `None` where nobody whom we can ask may read it.
pub fn expires(app: &App, chain: &Path) -> Result<Option<Timestamp>> {
    match first(chain)? {
        Some(certificate) => end_of(&certificate, chain).map(Some),
        None if hand::must_ask(app) => hand::certificate_end(app).map(Some),
        None => Ok(None),
    }
}

/// The same for whoever may read it.
pub fn end(chain: &Path) -> Result<Timestamp> {
    let certificate = first(chain)?;
    end_of(&certificate.ok_or_else(|| Error::new(format!("{} cannot be read", chain.display())))?, chain)
}

fn end_of(certificate: &Certificate, chain: &Path) -> Result<Timestamp> {
    let cannot = || Error::new(format!("{} is no certificate", chain.display()));
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    let seconds = i64::try_from(end.as_secs()).map_err(|_| cannot())?;
    Timestamp::from_second(seconds).map_err(|error| cannot().caused_by(error))
}

/// Whether a certificate is for a host; `None` where that cannot be told.
pub fn is_for(chain: &Path, domain: &Domain) -> Option<bool> {
    let certificate = first(chain).ok()??;
    let names = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok()??.1;
    Some(names.0.iter().any(|name| match name {
        GeneralName::DnsName(name) => fits(name.as_str(), domain.as_str()),
        _ => false,
    }))
}

/// A star stands for one label.
fn fits(name: &str, host: &str) -> bool {
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(above), Some((_, rest))) => above.eq_ignore_ascii_case(rest),
        _ => name.eq_ignore_ascii_case(host),
    }
}

/// The first certificate of a chain, the site's own; `None` where we may not read it.
fn first(chain: &Path) -> Result<Option<Certificate>> {
    let cannot = || Error::new(format!("{} is no certificate", chain.display()));
    let read = || format!("cannot read the certificate {}", chain.display());
    // It is nginx's and an ACME client's, often behind a symlink: it is followed, but nothing is waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(chain, flags, Mode::empty()).map_err(std::io::Error::from) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Ok(None),
        file => File::from(file.context(read)?),
    };
    if !file.metadata().context(read)?.is_file() {
        return Err(cannot());
    }
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).context(read)?;
    let all = Certificate::load_pem_chain(&text).map_err(|error| cannot().caused_by(error))?;
    all.into_iter().next().map(Some).ok_or_else(cannot)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_one_label() {
        for (name, host, is) in [
            ("app.example", "app.example", true),
            ("APP.example", "app.example", true),
            ("app.example", "x.app.example", false),
            ("*.app.example", "x.app.example", true),
            ("*.app.example", "app.example", false),
            ("*.app.example", "y.x.app.example", false),
            ("*.example", "x.app.example", false),
            ("*.", "x.", true),
        ] {
            assert_eq!(fits(name, host), is, "{name} for {host}");
        }
    }
}
