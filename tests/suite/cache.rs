//! `[cache]`: what a build made is there for the next one, as long as what it was made from is the same.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::world::{Said, World};

fn with_cache(build: &str, cache: &str) -> World {
    let world = World::with_app();
    world.file(
        "receiver.toml",
        &format!("[stages]\nbuild = '''{build}'''\n[database]\nengine = \"none\"\n[cache]\n{cache}\n"),
    );
    world.file("requirements.txt", "# nothing\n").file("index.html", "one\n");
    world.commit("one");
    world.push().ok().says("=====> live: ").never_says("does not act on it");
    world
}

impl World {
    fn next(&self, text: &str) -> Said {
        self.file("index.html", text);
        self.commit(text);
        self.push().ok().says("=====> live: ")
    }

    fn here(&self) -> PathBuf {
        self.app().join("versions").join(self.live().unwrap())
    }
}

/// Whether a file below `top` has these bytes in it.
fn names(top: &Path, what: &str) -> bool {
    std::fs::read_dir(top).unwrap().flatten().any(|entry| {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        let text = match kind {
            kind if kind.is_dir() => return names(&path, what),
            kind if kind.is_symlink() => path.read_link().unwrap().into_os_string().into_encoded_bytes(),
            _ => std::fs::read(&path).unwrap(),
        };
        text.windows(what.len()).any(|part| part == what.as_bytes())
    })
}

#[test]
fn a_virtual_environment_is_kept_while_its_requirements_are_the_same() {
    let build = "if [ -d .venv ]; then echo it is there; else python3 -m venv .venv; echo made it; fi\n\
                 .venv/bin/pip --version >/dev/null";
    let world = with_cache(build, "\".venv\" = [\"requirements.txt\"]");
    let old = world.here();
    assert!(names(&old.join(".venv"), old.file_name().unwrap().to_str().unwrap()));
    world.next("two\n").says("cache      .venv kept: ").says("it is there");
    let new = world.here();
    assert_ne!(old, new);
    // It is this release's own, and works.
    assert!(!names(&new.join(".venv"), old.file_name().unwrap().to_str().unwrap()));
    let python = new.join(".venv/bin/python3");
    let prefix =
        world.run(python.to_str().unwrap(), world.place(), &["-c", "import sys; print(sys.prefix)"]).ok();
    assert_eq!(Path::new(prefix.stdout.trim()), new.join(".venv"));
    let pip = std::fs::read_to_string(new.join(".venv/bin/pip")).unwrap();
    assert!(pip.starts_with(&format!("#!{}/.venv/bin/python", new.display())), "{pip}");
    assert_eq!(std::fs::metadata(new.join(".venv/bin/pip")).unwrap().mode() & 0o777, 0o755);
    // No file is shared with the release before.
    let inode = |release: &Path| std::fs::metadata(release.join(".venv/pyvenv.cfg")).unwrap().ino();
    assert_ne!(inode(&old), inode(&new));
    world.file("requirements.txt", "# something else\n");
    world.next("three\n").says("cache      .venv is made anew: requirements.txt changed").says("made it");
    // Its name in a binary of its own means that it is made again.
    let name = world.here().file_name().unwrap().to_owned();
    let own = [b"\x7fELF\0\0", name.as_encoded_bytes(), b"\0"].concat();
    std::fs::write(world.here().join(".venv/lib/tool.so"), own).unwrap();
    world.next("four\n").says("tool.so depends on the release that it was made in").says("made it");
    world.nothing_is_left_over();
}

#[test]
fn modules_with_links_and_modes_are_kept_whole_and_never_shared() {
    let build = "if [ -d node_modules ]; then echo there; exit; fi\n\
                 mkdir -p node_modules/.bin node_modules/a/deep\n\
                 echo 'module.exports = 1' > node_modules/a/index.js; echo run > node_modules/a/cli.js\n\
                 chmod 755 node_modules/a/cli.js; ln -s ../a/cli.js node_modules/.bin/a\n\
                 ln -s $PWD/node_modules/a node_modules/b; chmod 500 node_modules/a/deep\n\
                 touch -d 2001-02-03 node_modules/a/index.js";
    let world = with_cache(build, "node_modules = [\"requirements.txt\", \"none.lock\"]");
    let old = world.here();
    world.next("two\n").says("node_modules kept: 4 files, 1 with the release's new name").says("there");
    let modules = world.here().join("node_modules");
    assert_eq!(std::fs::read_link(modules.join(".bin/a")).unwrap(), Path::new("../a/cli.js"));
    assert_eq!(std::fs::read_link(modules.join("b")).unwrap(), modules.join("a"));
    let mode = |name: &str| std::fs::metadata(modules.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("a/cli.js"), mode("a/index.js"), mode("a/deep")), (0o755, 0o644, 0o500));
    assert_eq!(std::fs::metadata(modules.join("a/index.js")).unwrap().mtime(), 981_158_400);
    // What one release writes is not seen in another.
    std::fs::write(modules.join("a/index.js"), "changed").unwrap();
    assert_eq!(std::fs::read_to_string(old.join("node_modules/a/index.js")).unwrap(), "module.exports = 1\n");
    // A directory of the revision's own, or one behind a link, is left alone.
    world.file("node_modules/own.js", "x\n");
    world.next("three\n").says("node_modules is made anew: it is in the revision, too");
}
