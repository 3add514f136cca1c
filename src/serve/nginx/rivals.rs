//! Sites of nginx that answer for the same host: nginx goes on with the first that it reads, and only warns.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Nginx;
use crate::app::settings::Domain;
use crate::support::Result;

/// A file of nginx's configuration that has a site of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// The file, as nginx includes it.
    pub file: PathBuf,
    /// What else it answers for.
    pub others: Vec<String>,
    /// The certificate that it has, and its key.
    pub certificate: Option<(String, String)>,
}

/// The files besides `own` that have a site of `domain`.
pub fn rivals(nginx: &Nginx, own: &Path, domain: &Domain) -> Result<Vec<Rival>> {
    Ok(read(&nginx.dump()?, own, domain.as_str()))
}

fn read(dump: &str, own: &Path, domain: &str) -> Vec<Rival> {
    let mut found = Vec::new();
    for (file, text) in parts(dump) {
        let words = values(text, "server_name");
        let (same, others): (Vec<String>, Vec<String>) =
            words.into_iter().partition(|name| name.eq_ignore_ascii_case(domain));
        if same.is_empty() || file == own {
            continue;
        }
        let first = |name: &str| values(text, name).into_iter().next();
        let certificate = first("ssl_certificate").zip(first("ssl_certificate_key"));
        found.push(Rival { file: file.to_owned(), others, certificate });
    }
    found
}

/// The text of each file of a dump; a file may be included more than once.
fn parts(dump: &str) -> BTreeMap<&Path, &str> {
    let mut all = BTreeMap::new();
    let mut rest = dump;
    while let Some((_, after)) = rest.split_once("# configuration file ") {
        let Some((name, text)) = after.split_once(":\n") else { break };
        let end = text.find("\n# configuration file ").map_or(text.len(), |end| end + 1);
        all.insert(Path::new(name), &text[..end]);
        rest = &text[end..];
    }
    all
}

/// The words of all statements of this name.
fn values(text: &str, name: &str) -> Vec<String> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    let bare: String = lines.flat_map(|line| [line, "\n"]).collect();
    let mut found = Vec::new();
    for statement in bare.split([';', '{', '}']) {
        let mut words = statement.split_whitespace();
        if words.next() == Some(name) {
            found.extend(words.map(|word| word.trim_matches(['"', '\'']).to_owned()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sites_of_a_host_are_found_in_their_files() {
        let dump = "# configuration file /etc/nginx/nginx.conf:\nhttp { include conf.d/*.conf; }\n\n\
                    # configuration file /etc/nginx/conf.d/receiver-shop.conf:\nserver { server_name shop.example; }\n\n\
                    # configuration file /etc/nginx/sites-enabled/shop:\nserver {\n  listen 80; server_name  Shop.Example\n\
                    \twww.shop.example; # listen 81; server_name c.example;\n  ssl_certificate /a/b.pem;\n  ssl_certificate_key '/a/c.pem';\n}\n\n\
                    # configuration file /etc/nginx/sites-enabled/other:\nserver { server_name my-shop.example; }\n";
        let own = Path::new("/etc/nginx/conf.d/receiver-shop.conf");
        let rival = Rival {
            file: "/etc/nginx/sites-enabled/shop".into(),
            others: vec!["www.shop.example".into()],
            certificate: Some(("/a/b.pem".into(), "/a/c.pem".into())),
        };
        assert_eq!(read(dump, own, "shop.example"), [rival]);
        assert_eq!(read(dump, own, "c.example"), []);
        assert_eq!(read(dump, Path::new("/x"), "shop.example").len(), 2);
        assert_eq!(read("# configuration file", own, "shop.example"), []);
    }
}
