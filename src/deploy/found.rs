//! Founds an app: its directory, its repository with the constant hooks, its state. Without root.
//!
//! All of it is made beside its place and takes its place by one rename: an app is there wholly or not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use jiff::Timestamp;

use crate::app::layout::FORMAT;
use crate::app::server;
use crate::app::settings::BranchName;
use crate::app::{App, AppName, Lineage, Root, Vcs};
use crate::support::{Context, Error, Result, clock, death, files, program};
use crate::vcs::hg;

/// The hooks and their texts, the same for every app.
pub const HOOKS: [(&str, &str); 2] = [
    ("pre-receive", include_str!("../../hooks/pre-receive")),
    ("post-receive", include_str!("../../hooks/post-receive")),
];

/// What a Mercurial repository is set up with, the same for every app.
pub const HGRC: &str = include_str!("../../hooks/hgrc");

/// Whether the settings of a Mercurial repository have all that it was set up with, but for its phases, which are
/// the administrator's to choose.
pub fn is_set_up(hgrc: &str) -> bool {
    let has = |line: &str| line.starts_with("publish") || hgrc.lines().any(|there| there == line);
    HGRC.lines().all(has)
}

/// Makes an app. Where it is there already nothing is changed, and the answer's second part is `false`.
pub fn app(root: &Root, name: &AppName, vcs: Vcs, branch: Option<&BranchName>) -> Result<(App, bool)> {
    founded(root, name, vcs, branch, "")
}

/// The same for an app with a user of its own; whose each part is, is seen to by whoever asks.
pub fn app_of(root: &Root, name: &AppName, vcs: Vcs, branch: Option<&BranchName>) -> Result<(App, bool)> {
    founded(root, name, vcs, branch, &about_user(name))
}

/// What the marker says of an app with a user of its own.
pub fn about_user(name: &AppName) -> String {
    format!("user = \"{}\"\n", server::user_of(name))
}

fn founded(
    root: &Root,
    name: &AppName,
    vcs: Vcs,
    branch: Option<&BranchName>,
    about: &str,
) -> Result<(App, bool)> {
    let app = root.place(name);
    if app.is_created() {
        return Ok((app, false));
    }
    let app = filled(root, name, &mut |made| {
        let branch = branch.map_or(vcs.first_branch(), BranchName::as_str);
        make_repository(made, vcs, branch)?;
        if branch != Vcs::Git.first_branch() {
            let line = format!("branch = {}\n", toml::Value::from(branch));
            files::write_atomic(&made.server_config(), line.as_bytes(), 0o600)?;
        }
        mark(made, &format!("vcs = \"{vcs}\"\n{about}created = \"{}\"\n", clock::now()), root.path())
    })?;
    Ok((app, true))
}

/// Makes an app of what `fill` brings, which writes the marker at its end. Where that fails nothing is made.
pub fn filled(root: &Root, name: &AppName, fill: &mut dyn FnMut(&App) -> Result<()>) -> Result<App> {
    let app = root.place(name);
    if !root.path().is_dir() {
        files::make_directory(root.path(), 0o755)?;
    }
    if files::is_network_filesystem(files::filesystem_magic(root.path())?) {
        return Err(Error::new(format!(
            "{} lies on a network filesystem, where locks and renames promise less",
            root.path().display()
        ))
        .hint("name a local directory: `receiver --root DIR create …`"));
    }
    refuse_taken(app.directory())?;
    place(&app, fill)?;
    Ok(app)
}

/// Makes the app of a branch, which has no repository of its own. Where somebody else made the same one
/// meanwhile it is theirs and ours.
pub fn branch_app(app: &App, lineage: &Lineage, server_file: &str) -> Result<()> {
    branch_app_about(app, lineage, server_file, "", &mut |_| Ok(()))
}

/// The same for one with a user of its own. `give` gives each part of it to whom it belongs, before it takes its place.
pub fn branch_app_of(
    app: &App,
    lineage: &Lineage,
    server_file: &str,
    give: &mut dyn FnMut(&App) -> Result<()>,
) -> Result<()> {
    branch_app_about(app, lineage, server_file, &about_user(app.name()), give)
}

fn branch_app_about(
    app: &App,
    lineage: &Lineage,
    server_file: &str,
    about_user: &str,
    give: &mut dyn FnMut(&App) -> Result<()>,
) -> Result<()> {
    let made = place(app, &mut |made| {
        files::write_atomic(&made.server_config(), server_file.as_bytes(), 0o600)?;
        let branch = toml::Value::from(lineage.branch.as_str());
        let about = format!(
            "vcs = \"{}\"\n{about_user}parent = \"{}\"\nbranch = {branch}\npreview = {}\ncreated = \"{}\"\n",
            app.vcs(),
            lineage.parent,
            lineage.preview,
            clock::now()
        );
        mark(made, &about, app.root())?;
        give(made)
    });
    match made {
        Err(_) if app.is_created() && app.lineage().is_ok_and(|there| there.as_ref() == Some(lineage)) => {
            Ok(())
        }
        made => made,
    }
}

/// How the directories in which apps are made begin; the rest is the app's name and who makes it.
const WORKSHOP: &str = ".receiver-creates-";

/// Makes an app as one in a root of its own beside its place, and moves it there.
fn place(app: &App, fill: &mut dyn FnMut(&App) -> Result<()>) -> Result<()> {
    sweep(app.root())?;
    let workshop = app.root().join(format!("{WORKSHOP}{}-{}", app.name(), std::process::id()));
    files::remove_tree(&workshop)?;
    let made = make(&workshop, app.name(), fill).and_then(|made| {
        death::point("app-made");
        files::remove_empty_directory(app.directory())?;
        files::move_new(made.directory(), app.directory())
    });
    let swept = files::remove_tree(&workshop);
    made?;
    death::point("app-placed");
    swept
}

/// What a death left half made goes.
pub fn sweep(root: &Path) -> Result<()> {
    for name in files::names_in(root)? {
        let Some(pid) = name.strip_prefix(WORKSHOP).and_then(|rest| rest.rsplit_once('-')) else { continue };
        if !Path::new("/proc").join(pid.1).exists() {
            files::remove_tree(&root.join(name))?;
        }
    }
    Ok(())
}

/// Refuses a place where something lies that receiver did not make.
pub fn refuse_taken(place: &Path) -> Result<()> {
    if !files::exists(place) {
        return Ok(());
    }
    let what = if !files::is_directory(place) {
        "is no directory"
    } else if files::names_in(place)?.is_empty()
        && std::fs::read_dir(place).is_ok_and(|mut all| all.next().is_none())
    {
        return Ok(());
    } else {
        "holds something that receiver did not make"
    };
    Err(Error::new(format!("{} {what}", place.display())).hint("choose another name, or move it away"))
}

fn make(workshop: &Path, name: &AppName, fill: &mut dyn FnMut(&App) -> Result<()>) -> Result<App> {
    // What is made there is nobody else's to see, whatever its modes will be.
    files::make_directory(workshop, 0o700)?;
    let app = Root::find(Some(workshop))?.place(name);
    for (directory, mode) in app.directories() {
        files::make_directory(&directory, mode)?;
    }
    fill(&app)?;
    Ok(app)
}

/// Says that this is an app, which has a repository of its own; `about` is what its marker says besides.
pub fn write_marker(app: &App, vcs: Vcs, created: Timestamp, root: &Path, about: &str) -> Result<()> {
    mark(app, &format!("vcs = \"{vcs}\"\n{about}created = \"{created}\"\n"), root)
}

/// When an app was made, as its marker says.
pub fn created(app: &App) -> Result<Timestamp> {
    #[derive(serde::Deserialize)]
    struct Marker {
        created: Timestamp,
    }
    let path = app.marker();
    let marker: Option<Marker> = toml::from_str(&files::read_text(&path)?.unwrap_or_default()).ok();
    marker.map(|marker| marker.created).ok_or_else(|| Error::new(format!("{} is damaged", path.display())))
}

/// Written last: what has it is an app.
fn mark(app: &App, about: &str, root: &Path) -> Result<()> {
    let root = toml::Value::from(root.display().to_string());
    let marker = format!("format = {FORMAT}\napp = \"{}\"\n{about}root = {root}\n", app.name());
    files::write_atomic(&app.marker(), marker.as_bytes(), 0o644)
}

/// Makes an empty repository with the constant hooks; `branch` is what git's HEAD names.
pub fn make_repository(app: &App, vcs: Vcs, branch: &str) -> Result<()> {
    match vcs {
        Vcs::Git => make_git_repository(app, branch),
        Vcs::Mercurial => make_mercurial_repository(app),
    }
}

fn make_git_repository(app: &App, branch: &str) -> Result<()> {
    let place = app.repository_of(Vcs::Git);
    let mut options = git2::RepositoryInitOptions::new();
    options.bare(true).no_reinit(true).external_template(false).initial_head(branch);
    let repository = git2::Repository::init_opts(&place, &options)
        .context(|| format!("cannot make {}", place.display()))?;
    let settings = [
        ("receive.advertisePushOptions", "true"),
        // A global core.hooksPath would switch our hooks off, silently.
        ("core.hooksPath", "hooks"),
        ("transfer.hideRefs", "refs/receiver"),
    ];
    let mut config = repository.config().context(|| "cannot configure the repository")?;
    for (key, value) in settings {
        config.set_str(key, value).context(|| format!("cannot set {key}"))?;
    }
    let hooks = place.join("hooks");
    files::remove_tree(&hooks)?;
    files::make_directory(&hooks, 0o755)?;
    for (name, text) in HOOKS {
        let hook = hooks.join(name);
        files::write_atomic(&hook, text.as_bytes(), 0o755)?;
        std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755))
            .context(|| format!("cannot make {} executable", hook.display()))?;
    }
    files::link_new(&program::program()?, &hooks.join("receiver"))
}

fn make_mercurial_repository(app: &App) -> Result<()> {
    let place = app.repository_of(Vcs::Mercurial);
    hg::Repository::create(&place)?;
    let hooks = place.join(".hg/hooks");
    files::make_directory(&hooks, 0o755)?;
    files::link_new(&program::program()?, &hooks.join("receiver"))?;
    files::write_atomic(&place.join(".hg/hgrc"), HGRC.as_bytes(), 0o644)
}
