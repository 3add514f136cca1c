//! `receiver setup` that does not come to its end: killed after each of its acts and in the middle of them, by a power cut
//! while packages are unpacked, by a full disk, without a network. The same command goes on, to the same end.

use std::collections::BTreeSet;

use crate::setup::Site;

/// Where a setup can die: after each act, and in the middle of those that have one.
pub const POINTS: [&str; 2] = ["act-made", "owners-given"];

const SETUP: &str = "receiver setup app --domain app.example --database mysql --key /root/key.pub";

/// All that setup makes, as a person would look it over: files with their owners and modes, accounts, groups, units, grants.
const STATE: &str = r"
find /srv /var/lib/receiver /etc/receiver /etc/tmpfiles.d /etc/systemd/system -printf '%p %y %u:%g %m %l\n' | sort
getent passwd | cut -d: -f1,5-7 | sort
getent group | cut -d: -f1,4 | sort
systemctl list-unit-files --no-legend --state=enabled | sort
systemctl is-active receiver-root.socket receiver-command.socket receiver-work@srv-app.path nginx mariadb
mariadb -Ne 'SHOW GRANTS FOR receiver@localhost'
cat /srv/app/receiver.toml /etc/receiver/server.toml
";

impl Site {
    /// The state, a line each; of git's objects and of what has a time in it only that it is there.
    fn state(&self) -> BTreeSet<String> {
        self.sh(STATE).ok().stdout.lines().map(str::to_owned).collect()
    }
}

#[test]
fn a_setup_that_is_killed_after_each_of_its_acts_ends_as_one_that_is_not() {
    let whole = Site::new();
    whole.sh(&format!("{SETUP} 2>&1")).ok();
    let wanted = whole.state();
    let listed = whole.sh(&format!("{SETUP} --dry-run")).ok().stdout.lines().count();
    drop(whole);

    let site = Site::new();
    let mut deaths = 0;
    loop {
        let next = site.sh(&format!("{SETUP} --dry-run | grep -m 1 '^to make'")).stdout;
        let points: &[&str] = match next.split_whitespace().nth(2) {
            None => break,
            // Before it is in its place, and just after.
            Some("app") => &["app-made", "app-placed"],
            Some("owners") => &["owners-given", "act-made"],
            Some(_) => &["act-made"],
        };
        for point in points {
            let died = site.sh(&format!("RECEIVER_TEST_DIE_AT={point} {SETUP} 2>&1"));
            assert_eq!(died.code, 137, "{point} at {next}: {}", died.stdout);
            deaths += 1;
        }
        assert!(deaths < 2 * listed, "it does not come to its end");
    }
    assert!(deaths > listed / 2, "{deaths} deaths, {listed} acts");
    site.sh(&format!("{SETUP} 2>&1")).ok().says("nothing was changed");
    let found = site.state();
    let differences: Vec<_> = found.symmetric_difference(&wanted).collect();
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn a_power_cut_while_packages_are_unpacked_is_made_good_by_the_same_command() {
    let site = Site::new();
    site.sh(&format!("setsid {SETUP} >/root/said 2>&1 </dev/null &")).ok();
    // A package is unpacked, and not configured.
    site.until("dpkg", || site.sh("grep -q '^Status: install ok unpacked' /var/lib/dpkg/status || ls /var/lib/dpkg/updates | grep -q .").code == 0);
    site.server.power_cut();
    site.sh("! id receiver").ok();
    site.sh(&format!("{SETUP} 2>&1")).ok().says("made      packages").says("app is ready");
    site.sh("dpkg --audit").ok();
    site.sh(&format!("{SETUP} 2>&1")).ok().says("nothing was changed");
}

#[test]
fn a_package_that_a_power_cut_left_half_unpacked_is_unpacked_again() {
    let site = Site::new();
    site.sh("apt-get update -qq && apt-get install -y -qq liberror-perl").ok();
    // As dpkg writes it down, in its journal, before it unpacks.
    let half = "awk -v RS= '/^Package: liberror-perl\\n/' /var/lib/dpkg/status \
                | sed 's/^Status: .*/Status: install reinstreq half-installed/' >/var/lib/dpkg/updates/0001";
    site.sh(&format!("{half}; grep -q reinstreq /var/lib/dpkg/updates/0001")).ok();
    let setup = "receiver setup app --domain app.example --database none --key /root/key.pub 2>&1";
    site.sh(setup).ok().says("made      packages").says("app is ready");
    site.sh("dpkg --audit; ! grep reinstreq /var/lib/dpkg/status").ok();
}

#[test]
fn a_full_disk_and_a_server_without_a_network_are_told_with_the_way_on() {
    let site = Site::new();
    let setup = "receiver setup app --domain app.example --database none --key /root/key.pub 2>&1";
    // No network: a mirror that nobody answers at.
    site.sh("mkdir /root/apt; mv /etc/apt/sources.list* /root/apt; echo 'deb http://127.0.0.1:9/debian stable main' > /etc/apt/sources.list; rm -rf /var/lib/apt/lists/*").ok();
    let refused = site.sh(setup).fails(1);
    let refused = refused
        .says("setup stopped at: packages git nginx; the same command goes on from here")
        .says("the lists of packages could not be read")
        .says("bring them in another way: git nginx");
    assert!(!refused.stdout.contains("made "), "{}", refused.stdout);
    site.sh("! id receiver && [ ! -e /etc/receiver ]").ok();
    site.sh("rm /etc/apt/sources.list; mv /root/apt/* /etc/apt/").ok();
    // No room for packages: dpkg says so, some lines before apt's last words.
    site.sh("mkdir -p /usr/lib/git-core; mount -t tmpfs -o size=64k tmpfs /usr/lib/git-core").ok();
    site.sh(setup)
        .fails(1)
        .says("setup stopped at: packages git nginx")
        .says("No space left on device")
        .says("make room")
        .never_says("another way");
    site.sh("umount /usr/lib/git-core").ok();
    // No room for apps.
    site.sh("mount -t tmpfs -o size=16k tmpfs /srv").ok();
    site.sh(setup)
        .fails(1)
        .says("setup stopped at: app /srv/app; ")
        .says("before it were made, and stay; the same command goes on from here")
        .says("No space left on device")
        .says("make room");
    assert_eq!(site.sh("ls -A /srv").ok().stdout, "", "something half made is left");
    site.sh("umount /srv").ok();
    // And on it goes.
    site.sh(setup).ok().says("is there  user       receiver").says("app is ready");
    site.sh(setup).ok().says("nothing was changed");
}
