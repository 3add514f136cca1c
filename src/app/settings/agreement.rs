//! Whether values that are sound one by one also fit together.

use super::complaint::{Complaint, dotted};
use super::database::{Engine, HoldBy};
use super::inputs::Inputs;
use super::names::{BranchName, branch_matches};
use super::settings::BranchData;
use super::stage::{Action, StageName, WrittenStage};
use super::values::RelativePath;
use crate::support::Result;

/// Tables that lack what they need. Only both files together can say: one may give what the other lacks.
pub(super) fn incomplete(inputs: &Inputs) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    for (table, key) in [("process", "command"), ("cron", "at"), ("cron", "command")] {
        for name in inputs.names(&[table]) {
            if !inputs.mentioned(&[table, name, key]) {
                complaints.push(complain(inputs, &[table, name], &format!("has no {key}")));
            }
        }
    }
    complaints
}

/// Values that cannot hold at once.
pub(super) fn contradictions(inputs: &Inputs) -> Result<Vec<Complaint>> {
    let mut complaints = nested_shared(inputs)?;
    for name in StageName::ALL.into_iter().filter(|name| !name.opens_version()) {
        let path = ["stages", name.as_str()];
        let stage = inputs.get::<WrittenStage>(&path)?;
        if stage.is_some_and(|stage| matches!(stage.action, Action::Sql(_))) {
            complaints.push(complain(inputs, &path, "sql is for syncdb and migration only"));
        }
    }
    let disconnects = inputs.get::<HoldBy>(&["database", "hold"])? == Some(HoldBy::Disconnect);
    let engine =
        if inputs.said(&["database", "engine"]) { inputs.get(&["database", "engine"])? } else { None };
    if disconnects && engine.is_some_and(|engine: Engine| engine != Engine::Postgres) {
        let text = "is for engine = \"postgres\" only: the others copy while connections stay";
        complaints.push(complain(inputs, &["database", "hold"], text));
    }
    for (one, other) in [("certificate", "certificate_key"), ("certificate_key", "certificate")] {
        if inputs.mentioned(&["nginx", one]) && !inputs.mentioned(&["nginx", other]) {
            let text = format!("needs nginx.{other} too");
            complaints.push(complain(inputs, &["nginx", one], &text));
        }
    }
    let own: Option<BranchName> = inputs.get(&["branch"])?;
    for name in inputs.names(&["branches"]) {
        if let Some(own) = own.as_ref().filter(|own| branch_matches(name, own.as_str())) {
            let text = format!("means the branch '{own}', which the app deploys itself");
            complaints.push(complain(inputs, &["branches", name], &text));
        }
        let key = |key| ["branches", name, key];
        let preview = inputs.get(&key("preview"))?.unwrap_or(false);
        let app = inputs.mentioned(&key("app"));
        let of_previews = inputs.get::<BranchData>(&key("data"))?.is_some() || inputs.said(&key("process"));
        let wrong = match (app, preview) {
            (true, true) => "has both app and preview: a preview is named after its branch",
            (false, false) if !inputs.mentioned(&key("preview")) => "has neither app nor preview = true",
            (true, false) if name.contains('*') => "is a pattern: only previews can be many branches",
            (_, false) if of_previews => "has data or process, which are for previews",
            _ => continue,
        };
        complaints.push(complain(inputs, &["branches", name], wrong));
    }
    Ok(complaints)
}

/// A shared path in another one would be a link inside of what a link leads to.
fn nested_shared(inputs: &Inputs) -> Result<Vec<Complaint>> {
    let mut all: Vec<(RelativePath, &str)> = Vec::new();
    for key in ["files", "dirs"] {
        let paths: Vec<RelativePath> = inputs.want(&["shared", key])?;
        all.extend(paths.into_iter().map(|path| (path, key)));
    }
    // part by part, so that what lies in a directory follows it at once
    all.sort_by(|(a, _), (b, _)| a.as_path().cmp(b.as_path()));
    let clash = |pair: &[(RelativePath, &str)]| {
        let [(outer, _), (inner, key)] = pair else { return None };
        let text = if outer == inner {
            format!("'{inner}' is shared twice")
        } else {
            format!("'{inner}' lies in '{outer}', which is shared too")
        };
        outer.holds(inner).then(|| complain(inputs, &["shared", key], &text))
    };
    Ok(all.windows(2).filter_map(clash).collect())
}

fn complain(inputs: &Inputs, path: &[&str], text: &str) -> Complaint {
    let (file, line) = inputs.line(path).map_or(("receiver.toml", None), |(file, line)| (file, Some(line)));
    Complaint::new(file, line, &format!("'{}': {text}", dotted(path)))
}
