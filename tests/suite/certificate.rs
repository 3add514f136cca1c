//! `setup --email`: a certificate, from the asking to the renewal, by a certbot that answers as the real one does.

use std::os::unix::fs::PermissionsExt as _;

use crate::setup::Site;

const CERTBOT: &str = include_str!("../fixtures/certbot.py");

/// A server with that certbot, and the two certificates that it will bring, each its own authority.
fn site() -> Site {
    let site = Site::new();
    site.sh("apt-get update -qq; apt-get install -qq -y --no-install-recommends python3 >/dev/null 2>&1")
        .ok();
    let certbot = site.server.disk().join("usr/local/bin/certbot");
    std::fs::write(&certbot, CERTBOT).unwrap();
    std::fs::set_permissions(&certbot, std::fs::Permissions::from_mode(0o755)).unwrap();
    for which in ["one", "two"] {
        site.dev(&format!(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=app.example \
             -addext subjectAltName=DNS:app.example -keyout {which}-privkey.pem -out {which}-fullchain.pem -days 90 2>&1"
        ))
        .ok();
    }
    let place = site.server.disk().join("root/certificates");
    std::fs::create_dir(&place).unwrap();
    for name in ["one-fullchain.pem", "one-privkey.pem", "two-fullchain.pem", "two-privkey.pem"] {
        std::fs::copy(site.laptop.path().join(name), place.join(name)).unwrap();
    }
    site
}

impl Site {
    /// What a browser gets by https that trusts just this certificate.
    fn secure(&self, which: &str) -> String {
        self.dev(&format!(
            "curl --silent --show-error --max-time 10 --cacert {which}-fullchain.pem --resolve app.example:443:192.0.2.2 \
             https://app.example/ 2>&1"
        ))
        .stdout
    }

    /// The status by http.
    fn status(&self) -> String {
        self.dev(
            "curl --silent --max-time 10 --output /dev/null --write-out '%{http_code} %{redirect_url}' \
             --resolve app.example:80:192.0.2.2 http://app.example/",
        )
        .stdout
    }
}

#[test]
fn a_certificate_is_asked_for_served_and_renewed_and_without_one_the_site_stays_as_it_was() {
    let site = site();
    let setup = "receiver setup app --domain app.example --database none --key /root/key.pub --email ada@example.org 2>&1";
    site.sh(&format!("{setup} --dry-run")).ok().says("to make   certificate for app.example");
    // The domain leads nowhere yet: the rest is made, and can be used.
    let failed = site.sh(setup).fails(1);
    failed
        .says("setup stopped at: certificate for app.example")
        .says("the same command goes on from here")
        .says("DNS problem: NXDOMAIN")
        .says("app.example has to lead to this server, and port 80 has to be open");
    site.dev("cd app; git remote add production deploy@app.example:app").ok();
    site.file("receiver.toml", "[database]\nengine = \"none\"\n[web]\ncommand = \"exec python3 web.py\"\n");
    site.push("one").ok().says("=====> live: 0/");
    site.until_page("/", "first\n");
    site.sh(setup).fails(1).says("the same command goes on from here");
    site.until_page("/", "first\n");
    assert!(site.status().starts_with("200"), "{}", site.status());

    // It leads here: the same command, and http leads to https from then on.
    site.sh("touch /root/dns").ok();
    site.sh(setup)
        .ok()
        .says("made      certificate for app.example")
        .says("made      settings   app nginx.certificate");
    site.until("https", || site.secure("one") == "first\n");
    assert_eq!(site.status(), "301 https://app.example/");
    site.sh(setup).ok().says("nothing was changed");
    assert_eq!(site.sh("sort /root/asked | uniq -c").ok().stdout.split_whitespace().next(), Some("3"));
    site.sh("receiver doctor app 2>&1; receiver status app --check 2>&1").ok();

    // A deploy leaves it alone, and so does the renewal, which nginx hears of.
    site.file("index.html", "second\n");
    site.push("two").ok().says("=====> live: 0/");
    site.until("the second page", || site.secure("one") == "second\n");
    site.sh("certbot renew 2>&1").ok();
    site.until("the new certificate", || site.secure("two") == "second\n");
    site.sh(setup).ok().says("nothing was changed");
}

#[test]
fn a_certificate_that_nginx_refuses_leaves_the_site_as_it_was() {
    let site = site();
    let setup = "receiver setup app --domain app.example --database none --key /root/key.pub";
    site.paste(&site.sh(setup).ok());
    site.file("receiver.toml", "[database]\nengine = \"none\"\n[web]\ncommand = \"exec python3 web.py\"\n");
    site.push("one").ok().says("=====> live: 0/");
    site.until_page("/", "first\n");
    // The key is another certificate's.
    site.sh("touch /root/dns; cp /root/certificates/two-privkey.pem /root/certificates/one-privkey.pem").ok();
    site.sh(&format!("{setup} --email ada@example.org 2>&1"))
        .fails(1)
        .says("setup stopped at: settings app nginx.certificate")
        .says("nginx refuses /etc/nginx/conf.d/receiver-app.conf: it was taken back")
        .says("the site is served by http as before");
    assert!(site.status().starts_with("200"), "{}", site.status());
    site.sh("receiver config app nginx.certificate 2>&1").ok().says("is not set on the server");
    site.file("index.html", "second\n");
    site.push("two").ok().says("=====> live: 0/");
    site.until_page("/", "second\n");
    // The right one, and the same command.
    site.sh("certbot renew 2>&1").ok();
    site.sh(&format!("{setup} --email ada@example.org 2>&1")).ok();
    site.until("https", || site.secure("two") == "second\n");
}

#[test]
fn the_end_of_a_certificate_that_only_root_may_read_is_told_and_a_preview_is_not_under_one_for_another_host()
{
    let site = site();
    let setup =
        "receiver setup app --domain app.example --database none --key /root/key.pub --email ada@example.org";
    site.sh("touch /root/dns; mkdir -m 777 /var/lib/told").ok();
    site.paste(&site.sh(&format!("{setup} 2>&1")).ok());
    site.file("receiver.toml", "[database]\nengine = \"none\"\n[web]\ncommand = \"exec python3 web.py\"\n");
    site.push("one").ok().says("=====> live: 0/");
    site.until("https", || site.secure("one") == "first\n");
    site.sh("receiver config app notify.command 'cat >> /var/lib/told/events; echo >> /var/lib/told/events'")
        .ok();
    site.sh("receiver config app metrics.file /var/lib/told/app.prom").ok();
    site.sh("runuser -u receiver -- cat /etc/letsencrypt/live/app.example/fullchain.pem").fails(1);
    let look = || site.sh("receiver cron app .watch 2>&1").ok();
    look();
    site.sh("[ ! -e /var/lib/told/events ] && receiver status app --check").ok();
    let figure = || site.sh("grep ^receiver_certificate_expiry /var/lib/told/app.prom").ok().stdout;
    let before = figure();
    // What is renewed ends in nine days.
    site.dev(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=app.example \
         -addext subjectAltName=DNS:app.example -keyout two-privkey.pem -out two-fullchain.pem -days 9 2>&1",
    )
    .ok();
    for name in ["two-fullchain.pem", "two-privkey.pem"] {
        std::fs::copy(site.laptop.path().join(name), site.server.disk().join("root/certificates").join(name))
            .unwrap();
    }
    site.sh("certbot renew 2>&1").ok();
    look();
    look();
    let events = || site.sh("cat /var/lib/told/events").stdout;
    site.until("the event", || events().ends_with('\n'));
    assert_eq!(events().matches("\"event\":\"certificate\"").count(), 1, "{}", events());
    assert!(events().contains("fullchain.pem ends in "), "{}", events());
    site.sh("receiver status app --check").fails(1).says("fullchain.pem ends in ");
    site.ssh("status app --check").fails(1).says("fullchain.pem ends in ");
    assert_ne!(figure(), before);
    // What the settings name may be anything: root says nothing of it but when a certificate ends.
    site.sh("sed -i s,/etc/letsencrypt/live/app.example/fullchain.pem,/etc/shadow, /srv/app/receiver.toml")
        .ok();
    site.sh("receiver status app --check")
        .fails(1)
        .says("/etc/shadow is no certificate that can be read")
        .never_says("root:");
    site.sh("sed -i s,/etc/shadow,/etc/letsencrypt/live/app.example/fullchain.pem, /srv/app/receiver.toml")
        .ok();

    // It is not for the host of a preview, which is served by http.
    site.sh("printf '[branches]\\nx = { preview = true }\\n' >> /srv/app/receiver.toml").ok();
    site.dev("cd app; git push production main:x").ok().says("url: http://x.app.example/");
    let preview = "curl --silent --max-time 10 --resolve x.app.example:80:192.0.2.2 http://x.app.example/";
    site.until("the preview", || site.dev(preview).stdout == "first\n");
}
