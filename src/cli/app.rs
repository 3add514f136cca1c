//! Which app a command means: the one named, the one we stand in, or the only one.

use super::{Global, identity, talk};
use crate::app::names::list_names;
use crate::app::{App, Root};
use crate::deploy::worker;
use crate::support::{Error, Result};

/// The app that is named, or else the one that can be meant.
pub fn pick(global: &Global, name: Option<&str>) -> Result<App> {
    let app = find(global, name)?;
    identity::settle(&app)?;
    Ok(app)
}

fn find(global: &Global, name: Option<&str>) -> Result<App> {
    let root = global.root()?;
    match name {
        Some(name) => root.open(&name.parse()?),
        None => around(global, &root)?.ok_or_else(|| nobody(&root)),
    }
}

/// `[APP] [REST…]`: where the first word is no app that is there, and one can be meant, all words are the rest.
pub fn split(global: &Global, words: &[String]) -> Result<(App, Vec<String>)> {
    let (app, rest) = divide(global, words)?;
    identity::settle(&app)?;
    Ok((app, rest))
}

fn divide(global: &Global, words: &[String]) -> Result<(App, Vec<String>)> {
    let root = global.root()?;
    if let Some((first, rest)) = words.split_first()
        && let Ok(name) = first.parse()
        && root.has(&name)
    {
        return Ok((root.place(&name), rest.to_vec()));
    }
    match (around(global, &root)?, words.first()) {
        (Some(app), _) => Ok((app, words.to_vec())),
        (None, Some(first)) => root.open(&first.parse()?).map(|app| (app, words[1..].to_vec())),
        (None, None) => Err(nobody(&root)),
    }
}

fn around(global: &Global, root: &Root) -> Result<Option<App>> {
    // Who came over ssh stands nowhere.
    if global.visitor.is_none()
        && let Some(app) = std::env::current_dir().ok().and_then(|place| root.app_around(&place))
    {
        return Ok(Some(app));
    }
    // The apps of its branches are named; without a name their parent is meant.
    let mut apps: Vec<App> = root.apps()?.into_iter().filter(|app| app.name().parent().is_none()).collect();
    Ok(if apps.len() == 1 { apps.pop() } else { None })
}

fn nobody(root: &Root) -> Error {
    match root.apps().unwrap_or_default().as_slice() {
        [] => Error::usage(format!("there is no app in {}", root.path().display()))
            .hint("`receiver create APP` makes one"),
        apps => Error::usage("there are several apps: name one")
            .hint(format!("they are: {}", list_names(apps.iter().map(App::name)))),
    }
}

/// Says when the branch's tip was never deployed: a hook was lost.
pub fn mention_lost_tip(global: &Global, app: &App) {
    if let Some(tip) = worker::undeployed_tip(app)
        && crate::app::guard::holder(app).is_none()
    {
        talk::say(
            global,
            &format!(
                "note: the tip {} of the deployed branch was never deployed; `receiver deploy {}` does it",
                tip.short(),
                app.name()
            ),
        );
    }
}
