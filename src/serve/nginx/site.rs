//! The site of an app: a value made of what the server grants and what is live, and the text that nginx
//! reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use minijinja::Environment;
use serde::Serialize;

use super::check::Machine;
use super::quoted::Quoted;
use super::versions::{self, Versions};
use crate::app::App;
use crate::app::init::{self, Framework};
use crate::app::settings::{Certificate, Domain, Listen, Protocol, RelativePath, Settings};
use crate::serve::start::refuse_long;
use crate::support::{Context, Result, files};

const TEMPLATE: &str = include_str!("site.conf.jinja");

/// Who answers what is not a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A web process.
    Process {
        /// What it speaks.
        protocol: Protocol,
        /// The socket that is asked.
        socket: PathBuf,
        /// The socket that is asked where nobody answers at the first.
        backup: Option<PathBuf>,
    },
    /// Nobody: the release is a static site, and this is the directory of it that is served, empty for all.
    Files(PathBuf),
    /// Nobody, and nothing but the static files of the settings.
    Nothing,
}

impl Content {
    /// What a release at `release` is, by its settings; `socket` is asked where it has a web process. Only a tree
    /// that is nothing but a static site is served whole: any other has sources that are nobody's to read.
    pub fn of(settings: &Settings, release: &Path, socket: PathBuf, backup: Option<PathBuf>) -> Content {
        let has = |name: &str| release.join(name).is_file();
        if settings.web.command.is_some() {
            Content::Process { protocol: settings.web.protocol, socket, backup }
        } else if has("index.html") && is_static(release) {
            Content::Files(PathBuf::new())
        } else if has("public/index.html") {
            Content::Files(PathBuf::from("public"))
        } else {
            Content::Nothing
        }
    }
}

fn is_static(release: &Path) -> bool {
    let names_in = |directory: &str| files::names_in(&release.join(directory)).unwrap_or_default();
    init::detect(&names_in).framework == Framework::Static
}

/// Where it listens, and for whom.
#[derive(Clone, Debug)]
pub struct Front {
    /// The host that it answers for; any where there is none.
    pub domain: Option<Domain>,
    /// Where it listens for HTTP.
    pub listen: Vec<Listen>,
    /// Where it listens for TLS, and with what.
    pub tls: Option<(Vec<Listen>, Certificate)>,
    /// Where an ACME client puts what it is asked for.
    pub challenge: Option<PathBuf>,
    /// The versions that have a host of their own, below the domain; where there are none, no such host is
    /// spoken of.
    pub versions: Option<Versions>,
}

/// The site of an app.
#[derive(Clone, Debug)]
pub struct Site {
    app: App,
    front: Front,
    content: Content,
    /// What files are served from: the link to the live release, or a release.
    release: PathBuf,
    /// The link to the one before it.
    previous: Option<PathBuf>,
    static_files: BTreeMap<String, RelativePath>,
    max_body: u64,
    /// Seconds that the other side may be silent.
    timeout: u64,
}

impl Site {
    /// The site that answers for what is live, and for versions beside it: `settings` are those that hold for
    /// what is live.
    pub fn live(app: &App, settings: &Settings, versions: Versions) -> Site {
        let backup = Some(app.current().join(".receiver").join("web.sock"));
        let content = Content::of(settings, &app.current(), app.door(), backup);
        let nginx = &settings.nginx;
        let front = Front {
            domain: settings.domain.clone(),
            listen: nginx.listen.clone(),
            tls: nginx.certificate.clone().map(|certificate| (nginx.listen_tls.clone(), certificate)),
            challenge: Some(nginx.challenge.clone()),
            versions: Some(versions),
        };
        let previous = Some(app.previous());
        Site { previous, ..Site::of(app, settings, front, content, app.current()) }
    }

    /// A site that looks at the release in the directory `release`, whatever is live.
    pub fn of(app: &App, settings: &Settings, front: Front, content: Content, release: PathBuf) -> Site {
        // A request may be held at the door before the application hears of it.
        let silent = settings.nginx.timeout + settings.database.max_pause + Duration::from_millis(999);
        Site {
            app: app.clone(),
            front,
            content,
            release,
            previous: None,
            static_files: settings.web.static_files.clone(),
            max_body: settings.nginx.max_body,
            timeout: silent.as_secs(),
        }
    }

    /// The text that nginx on this machine reads.
    ///
    /// # Errors
    /// A path that cannot be quoted, or a socket whose path is too long.
    pub fn render(&self, machine: Machine) -> Result<String> {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(minijinja::UndefinedBehavior::SemiStrict);
        let template =
            environment.template_from_str(TEMPLATE).context(|| "the template of a site is damaged")?;
        let view = minijinja::value::Serde(self.view(machine)?);
        let text =
            template.render(view).context(|| format!("cannot make the site of {}", self.app.name()))?;
        Ok(text + "\n")
    }

    fn view(&self, machine: Machine) -> Result<View> {
        let name = self.app.name().as_str();
        // No name of an app has a `_`, so that two of them stay two.
        let variable = format!("receiver_{}", name.replace('-', "_"));
        let upstream = match &self.content {
            Content::Process { socket, backup, .. } => {
                Some(Upstream::of(&variable, socket, backup.as_deref())?)
            }
            _ => None,
        };
        let listen = |all: &[Listen]| all.iter().flat_map(|at| machine.addresses(*at)).collect();
        let (listen_tls, certificate) = match &self.front.tls {
            Some((all, with)) => {
                (listen(all), Some(Pair { chain: Quoted::path(&with.chain)?, key: Quoted::path(&with.key)? }))
            }
            None => (Vec::new(), None),
        };
        let versions = match (&self.front.versions, &self.front.domain) {
            (Some(versions), Some(domain)) => Some(versions::View::of(&self.app, domain, versions)?),
            _ => None,
        };
        let server_name = Quoted::literal(self.front.domain.as_ref().map_or("_", Domain::as_str))?;
        let mut names = vec![server_name.clone()];
        names.extend(versions.as_ref().map(|versions| versions.pattern.clone()));
        let body = self.body(&variable)?;
        Ok(View {
            app: name.to_owned(),
            variable,
            server_name,
            names,
            listen: listen(&self.front.listen),
            listen_tls,
            certificate,
            http2: machine.http2,
            challenge: self.front.challenge.as_deref().map(Quoted::path).transpose()?,
            maintenance: Quoted::path(&self.app.maintenance())?,
            hidden: Quoted::pattern(r"/(\.|receiver\.toml$)", "", "")?,
            max_body: self.max_body,
            upgrades: body.speaks_http() || versions.as_ref().is_some_and(versions::View::speaks_http),
            upstream,
            body,
            versions,
        })
    }

    fn body(&self, upstream: &str) -> Result<Body> {
        let (door, files) = match &self.content {
            Content::Process { protocol, .. } => {
                let scheme = if *protocol == Protocol::Http { "http://" } else { "" };
                let mut door = Door::of(*protocol, Quoted::literal(&format!("{scheme}{upstream}"))?);
                door.timeout = self.timeout;
                (Some(door), None)
            }
            Content::Files(directory) => (None, Some(directory.as_path())),
            Content::Nothing => (None, None),
        };
        let place = Place { top: &self.release, behind: "" };
        Body::of(&place, self.previous.as_deref(), door, files, &self.static_files)
    }
}

/// Where a release is: a path, and text of ours behind it, in which a `$` is a variable.
pub(super) struct Place<'a> {
    pub(super) top: &'a Path,
    pub(super) behind: &'a str,
}

impl Place<'_> {
    /// A directory in it; an empty one is the place itself.
    fn below(&self, directory: &Path) -> Result<Quoted> {
        if directory.as_os_str().is_empty() {
            return Quoted::path_between("", self.top, self.behind);
        }
        Quoted::path(directory)?;
        let behind = format!("{}/{}", self.behind, directory.display());
        Quoted::path_between("", self.top, &behind)
    }
}

/// What one server of nginx's answers, whatever it is called.
#[derive(Serialize)]
pub(super) struct Body {
    door: Option<Door>,
    everything: Option<Quoted>,
    entries: Vec<Entry>,
    root: Root,
    previous: Option<Root>,
}

impl Body {
    /// Of a release at `place`, where `files` of it are a static site, `previous` the one whose files are
    /// looked for next.
    pub(super) fn of(
        place: &Place,
        previous: Option<&Path>,
        door: Option<Door>,
        files: Option<&Path>,
        static_files: &BTreeMap<String, RelativePath>,
    ) -> Result<Body> {
        let everything = static_files.get("/").map(RelativePath::as_path).or(files);
        let entries = static_files.iter().filter(|(url, _)| *url != "/");
        Ok(Body {
            door,
            everything: everything.map(|directory| place.below(directory)).transpose()?,
            entries: entries.map(|(url, path)| Entry::of(url, path)).collect::<Result<_>>()?,
            root: Root::of(place.top, place.behind)?,
            previous: previous.map(|link| Root::of(link, "")).transpose()?,
        })
    }

    /// Whether it may be asked to speak WebSocket.
    pub(super) fn speaks_http(&self) -> bool {
        self.door.as_ref().is_some_and(|door| door.protocol == "http")
    }
}

/// How a web process is asked.
#[derive(Serialize)]
pub(super) struct Door {
    protocol: &'static str,
    pass: Quoted,
    /// Seconds that it may be silent.
    pub(super) timeout: u64,
    /// Whether the password that a browser sends is nginx's own affair.
    pub(super) strips_password: bool,
}

impl Door {
    pub(super) fn of(protocol: Protocol, pass: Quoted) -> Door {
        let protocol = match protocol {
            Protocol::Http => "http",
            Protocol::Fastcgi => "fastcgi",
            Protocol::Uwsgi => "uwsgi",
        };
        Door { protocol, pass, timeout: 60, strips_password: false }
    }
}

/// What the template is given: nothing in it is text that was not quoted, but for words of ours, numbers,
/// and the app's name.
#[derive(Serialize)]
struct View {
    app: String,
    variable: String,
    server_name: Quoted,
    names: Vec<Quoted>,
    listen: Vec<String>,
    listen_tls: Vec<String>,
    certificate: Option<Pair>,
    http2: bool,
    challenge: Option<Quoted>,
    maintenance: Quoted,
    hidden: Quoted,
    max_body: u64,
    /// Whether somebody may be asked to speak WebSocket.
    upgrades: bool,
    upstream: Option<Upstream>,
    body: Body,
    versions: Option<versions::View>,
}

#[derive(Serialize)]
struct Pair {
    chain: Quoted,
    key: Quoted,
}

#[derive(Serialize)]
struct Upstream {
    name: String,
    socket: Quoted,
    backup: Option<Quoted>,
}

impl Upstream {
    fn of(name: &str, socket: &Path, backup: Option<&Path>) -> Result<Upstream> {
        let quoted = |socket: &Path| {
            refuse_long(socket)?;
            Quoted::path_between("unix:", socket, "")
        };
        Ok(Upstream {
            name: name.to_owned(),
            socket: quoted(socket)?,
            backup: backup.map(quoted).transpose()?,
        })
    }
}

/// Where files lie: symlinks below it are followed only to what belongs to the same owner.
#[derive(Serialize)]
struct Root {
    path: Quoted,
    from: Quoted,
}

impl Root {
    fn of(path: &Path, behind: &str) -> Result<Root> {
        Ok(Root {
            path: Quoted::path_between("", path, behind)?,
            from: Quoted::path_between("from=", path, behind)?,
        })
    }
}

/// What is served below a path on the web.
#[derive(Serialize)]
struct Entry {
    prefix: Quoted,
    pattern: Quoted,
    file: Quoted,
    /// The path itself, where it may be one file: `/robots.txt`.
    exact: Option<Quoted>,
    exact_file: Quoted,
}

impl Entry {
    fn of(url: &str, path: &RelativePath) -> Result<Entry> {
        let (bare, file) = (url.strip_suffix('/').unwrap_or(url), Path::new("/").join(path.as_path()));
        Ok(Entry {
            prefix: Quoted::literal(&format!("{bare}/"))?,
            pattern: Quoted::pattern("^", bare, "/(?<receiver_file>.+)$")?,
            file: Quoted::path_between("", &file, "/$receiver_file")?,
            exact: (bare == url).then(|| Quoted::literal(bare)).transpose()?,
            exact_file: Quoted::path(&file)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::AppName;
    use crate::app::settings::Urls;
    use crate::app::{Root, Version};
    use crate::serve::nginx::versions::Kept;

    fn app(root: &str) -> App {
        let name: AppName = "a-b".parse().unwrap();
        Root::find(Some(Path::new(root))).unwrap().place(&name)
    }

    fn settings(repository: &str, server: &str) -> Settings {
        Settings::load(Some(repository.as_bytes()), Some(server.as_bytes()), "server").unwrap()
    }

    const MACHINE: Machine = Machine { ipv6: true, http2: true };

    fn versions(settings: &Settings) -> Versions {
        let kept = [3, 4].map(|n| Kept::of(Version(n), settings, Path::new("/none"), "last"));
        Versions { urls: settings.versions.urls, kept: kept.to_vec() }
    }

    fn text(repository: &str, server: &str) -> String {
        let settings = settings(repository, server);
        Site::live(&app("/srv"), &settings, versions(&settings)).render(MACHINE).unwrap()
    }

    #[test]
    fn what_is_said_stands_in_the_text_quoted() {
        let text = text(
            "[web]\ncommand = 'x'\nstatic = { '/a.b' = 'x \"y;{}\\z' }",
            "domain = 'a.example'\n[nginx]\nmax_body = '1K'\ntimeout = '90s'\n[database]\nmax_pause = '10s'",
        );
        for line in [
            "listen 80;",
            "listen [::]:80;",
            r#"server_name "a.example";"#,
            "client_max_body_size 1024;",
            // Who is held at the door is silent, too.
            "proxy_read_timeout 100s;",
            r#"server "unix:/srv/a-b/receiver/door.sock" max_fails=0;"#,
            r#"server "unix:/srv/a-b/current/.receiver/web.sock" max_fails=0 backup;"#,
            r#"location ~ "^/a\\.b/(?<receiver_file>.+)$" {"#,
            r#"try_files "/x \"y;{}\\z/$receiver_file" @receiver_previous_1;"#,
        ] {
            assert!(text.lines().any(|there| there.trim() == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn two_apps_share_no_name_of_a_variable() {
        assert!(text("[web]\ncommand = 'x'", "domain = 'a.example'").contains("$receiver_a_b_upgrade"));
    }

    #[test]
    fn versions_are_shown_only_where_that_is_granted() {
        let with = |urls: &str| {
            text("[web]\ncommand = 'x'", &format!("domain = 'a.example'\nversions.urls = '{urls}'"))
        };
        assert!(!with("off").contains("receiver_n"));
        assert!(with("public").contains(r#"server_name "~^v(?<receiver_n>3|4)\\.a\\.example$";"#));
        assert!(!with("public").contains("auth_basic_user_file"));
        assert!(with("password").contains(r#"auth_basic_user_file "/srv/a-b/receiver/versions.htpasswd";"#));
        for urls in ["off", "public", "password"] {
            // Any other number is nobody's, and not the next site's.
            assert!(with(urls).contains(r#"server_name "~^v(?:0|[1-9][0-9]{0,9})\\.a\\.example$";"#));
        }
    }

    #[test]
    fn versions_that_are_not_alike_are_servers_of_their_own_and_no_token_is_too_long() {
        let said = |toml: &str| settings(toml, "domain = 'a.example'\nversions.urls = 'public'");
        let http = said("[web]\ncommand = 'x'");
        let fastcgi = said("[web]\ncommand = 'x'\nprotocol = 'fastcgi'\nstatic = { '/s' = 'old' }");
        let kept = (0..2000).map(|n| {
            let settings = if n % 2 == 0 { &http } else { &fastcgi };
            Kept::of(Version(n), settings, Path::new("/none"), "last")
        });
        let versions = Versions { urls: Urls::Public, kept: kept.collect() };
        let text = Site::live(&app("/srv"), &http, versions).render(MACHINE).unwrap();
        assert_eq!(
            text.matches("proxy_pass \"http://unix:/srv/a-b/receiver/run/versions/$receiver_n.sock:\";")
                .count(),
            2
        );
        assert_eq!(
            text.matches("fastcgi_pass \"unix:/srv/a-b/receiver/run/versions/$receiver_n.sock\";").count(),
            2
        );
        assert!(text.contains("root \"/srv/a-b/versions/$receiver_n/last\";"));
        assert!(text.split_whitespace().all(|token| token.len() < 4000));
    }

    #[test]
    fn a_root_that_cannot_be_quoted_or_is_too_long_is_refused() {
        let settings = settings("[web]\ncommand = 'x'", "domain = 'a.example'");
        let render = |root: &str| Site::live(&app(root), &settings, versions(&settings)).render(MACHINE);
        assert!(render("/srv/a b;{\"'\\é").is_ok());
        for bad in ["/srv/$x", "/srv/a\nb", &format!("/srv/{}", "x".repeat(100))] {
            assert!(render(bad).is_err(), "{bad:?}");
        }
    }
}
