//! A certificate: asked for by way of nginx's usual site, renewed by certbot itself, and loaded by nginx then.

use std::path::{Path, PathBuf};

use super::act::{Act, run};
use super::apps::said;
use crate::app::App;
use crate::app::settings::Domain;
use crate::server::identity;
use crate::support::{Error, Result};

/// The settings that name a certificate, and its key.
pub const SETTINGS: [&str; 2] = ["nginx.certificate", "nginx.certificate_key"];

/// The directory that certbot puts its answers to the authority into, and that nginx serves.
const CHALLENGE: &str = "/var/www/html";

/// A certificate of Let's Encrypt's.
pub struct Certificate {
    /// The host.
    pub domain: Domain,
    /// Who is told when something is wrong with it.
    pub email: String,
}

impl Certificate {
    /// Where certbot has it, and its key.
    pub fn files(domain: &Domain) -> (PathBuf, PathBuf) {
        let place = Path::new("/etc/letsencrypt/live").join(domain.as_str());
        (place.join("fullchain.pem"), place.join("privkey.pem"))
    }

    /// Refuses what is no address: it becomes an argument of a program.
    pub fn refuse_strange(email: &str) -> Result<()> {
        let sound = |b: u8| b.is_ascii_alphanumeric() || b"@.+-_".contains(&b);
        let parts = email.split('@').filter(|part| !part.is_empty()).count();
        if parts == 2 && email.bytes().all(sound) && !email.starts_with('-') {
            return Ok(());
        }
        Err(Error::usage(format!("'{}' is no address for mail", email.escape_default())))
    }
}

impl Act for Certificate {
    fn what(&self) -> String {
        format!(
            "certificate for {} (certbot, by {CHALLENGE}; it renews itself, and nginx loads it)",
            self.domain.as_str()
        )
    }

    fn is_done(&self) -> Result<bool> {
        let (certificate, key) = Certificate::files(&self.domain);
        Ok(certificate.exists() && key.exists())
    }

    fn perform(&self) -> Result<()> {
        let place = ["certonly", "--webroot", "-w", CHALLENGE, "-d", self.domain.as_str()];
        let how = [
            "--non-interactive",
            "--agree-tos",
            "--email",
            &self.email,
            "--deploy-hook",
            "systemctl reload nginx",
        ];
        run("certbot", &[&place[..], &how[..]].concat()).map(drop).map_err(|error| {
            error.hint(format!(
                "{} has to lead to this server, and port 80 has to be open; the same command tries again, and without \
                 --email the rest is made without a certificate",
                self.domain.as_str()
            ))
        })?;
        if self.is_done()? {
            Ok(())
        } else {
            Err(Error::new("certbot said that all is well, and made no certificate"))
        }
    }
}

/// That the site of an app has a certificate: from then on it is served by https.
pub struct Tls {
    /// The app.
    pub app: App,
    /// The certificate, and its key.
    pub files: [PathBuf; 2],
}

impl Act for Tls {
    fn what(&self) -> String {
        format!("settings   {} {} = {}", self.app.name(), SETTINGS.join(" and "), self.files[0].display())
    }

    fn is_done(&self) -> Result<bool> {
        for (key, file) in SETTINGS.iter().zip(&self.files) {
            if said(&self.app, key)?.as_deref() != file.to_str() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn perform(&self) -> Result<()> {
        let root = self.app.root().display().to_string();
        let [certificate, key] = self.files.each_ref().map(|file| file.display().to_string());
        let place = ["--quiet", "--root", &root, "config", self.app.name().as_str()];
        let values = [SETTINGS[0], &certificate, SETTINGS[1], &key];
        match identity::run_as_receiver(place.iter().chain(&values).map(Into::into).collect())? {
            0 => Ok(()),
            _ => Err(Error::new("they cannot be set")
                .hint("the site is served by http as before; the same command tries again")),
        }
    }
}
