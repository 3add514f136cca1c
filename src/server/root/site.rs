//! nginx's site of an app, made by root from what the server says and what is live: no text of it comes from whoever
//! asks.

use jiff::Timestamp;

use super::Ground;
use crate::deploy::{certificate, look, site};
use crate::serve::nginx::Installed;
use crate::support::{Error, Result};

/// When the certificate that the app's settings name ends. They are receiver's to write: nothing else is said of a file,
/// and of one that is no certificate not even why.
pub(super) fn certificate_end(ground: &Ground) -> Result<Timestamp> {
    let server = look::server_settings(&ground.app)?;
    let chain = server.nginx.certificate.ok_or_else(|| Error::new("the site has no certificate"))?.chain;
    certificate::end(&chain)
        .map_err(|_| Error::new(format!("{} is no certificate that can be read", chain.display())))
}

pub(super) fn refresh(ground: &Ground) -> Result<bool> {
    let server = look::server_settings(&ground.app)?;
    // The app's settings on the server are receiver's to write: root writes to no file that they name.
    if server.nginx.site.is_some() || server.nginx.config.is_some() {
        return Err(Error::new(
            "nginx.site and nginx.config are set, and the root service writes to its usual file only",
        )
        .hint(format!(
            "as root: `receiver config {} --site`, and install the text by hand",
            ground.app.name()
        )));
    }
    let settings = site::live_settings(&ground.app)?;
    Ok(site::refresh(&ground.app, &settings)? == Some(Installed::Loaded))
}
