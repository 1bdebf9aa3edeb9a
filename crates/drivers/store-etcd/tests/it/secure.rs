//! etcd with TLS and with users.

use std::{path::Path, time::Duration};

use caracal_api::Kind;
use caracal_store::{ListOptions, Store, StoreError, WatchEvent};
use caracal_store_etcd::{EtcdSettings, EtcdStore, Login, Material, Source};
use caracal_testkit::{Authority, Etcd, Issued, needs};
use futures::StreamExt;

use crate::{
    cluster::insist,
    etcd::{runtime, set},
};

fn settings(etcd: &Etcd, authority: &Authority, client: Option<&Issued>) -> EtcdSettings {
    let mut settings = EtcdSettings::new([etcd.endpoint()]);
    settings.tls = Material {
        authorities: Some(Source::text("ETCD_CA_CERT", authority.pem())),
        identity: client.map(|c| {
            (
                Source::text("ETCD_CERT", &c.chain),
                Source::text("ETCD_KEY", &c.key),
            )
        }),
    };
    settings.timeout = Duration::from_secs(5);
    settings
}

fn refusal(settings: &EtcdSettings) -> String {
    let store = EtcdStore::new(settings).unwrap();
    match runtime().block_on(store.create(set("x"))).unwrap_err() {
        StoreError::Unavailable(text) => text,
        other => panic!("{other}"),
    }
}

#[test]
fn with_certificates_of_the_right_authority_all_works() {
    needs!("etcd");
    let rt = runtime();
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let etcd = Etcd::start_secure(&ours);
    let me = ours.issue(&["calico"]);
    let good = settings(&etcd, &ours, Some(&me));
    let store = EtcdStore::new(&good).unwrap();
    rt.block_on(async {
        store.create(set("a")).await.unwrap();
        let page = store
            .list(Kind::NetworkSet, &ListOptions::default())
            .await
            .unwrap();
        let mut watch = store.watch(Kind::NetworkSet, &page.watch_from).await.unwrap();
        store.create(set("b")).await.unwrap();
        let event = watch.next().await.unwrap().unwrap();
        assert!(
            matches!(&event, WatchEvent::Set(r) if r.metadata().name == "b"),
            "{event:?}"
        );
    });
    let wrong_authority = refusal(&settings(&etcd, &other, Some(&me)));
    assert!(wrong_authority.contains("ETCD_CA_CERT_FILE"), "{wrong_authority}");
    for client in [
        None,
        Some(other.issue(&["calico"])),
        Some(ours.issue_expired(&["calico"])),
    ] {
        let refused = refusal(&settings(&etcd, &ours, client.as_ref()));
        assert!(
            refused.contains("ETCD_CERT_FILE") || refused.contains("expired"),
            "{refused}"
        );
    }
    let mut plain = EtcdSettings::new([etcd.endpoint().replace("https", "http")]);
    plain.timeout = Duration::from_secs(5);
    let refused = refusal(&plain);
    assert!(refused.contains("begin with https://"), "{refused}");
}

#[test]
fn tls_to_a_plain_etcd_and_an_expired_server_are_named() {
    needs!("etcd");
    let ours = Authority::new("ours");
    let plain = Etcd::start();
    let mut asking = settings(&plain, &ours, None);
    asking.endpoints = vec![plain.endpoint().replace("http", "https")];
    let refused = refusal(&asking);
    assert!(refused.contains("begin with http://"), "{refused}");
    let etcd = Etcd::start_secure(&ours);
    etcd.certify_expired(&ours);
    let refused = refusal(&settings(&etcd, &ours, Some(&ours.issue(&["calico"]))));
    assert!(refused.contains("expired"), "{refused}");
}

#[test]
fn certificates_rotated_on_disk_are_used_without_a_restart() {
    needs!("etcd");
    let rt = runtime();
    let (old, new) = (Authority::new("old"), Authority::new("new"));
    let mut etcd = Etcd::start_secure(&old);
    let dir = tempfile::tempdir().unwrap();
    let put = |authority: &Authority| {
        std::fs::write(dir.path().join("ca.crt"), authority.pem()).unwrap();
        authority.issue(&["calico"]).write(dir.path(), "client")
    };
    let (cert, key) = put(&old);
    let mut of_files = EtcdSettings::new([etcd.endpoint()]);
    of_files.tls = Material {
        authorities: Some(Source::file("ETCD_CA_CERT_FILE", dir.path().join("ca.crt"))),
        identity: Some((
            Source::file("ETCD_CERT_FILE", cert),
            Source::file("ETCD_KEY_FILE", key),
        )),
    };
    let store = EtcdStore::new(&of_files).unwrap();
    rt.block_on(async {
        store.create(set("a")).await.unwrap();
        etcd.kill();
        put(&new);
        etcd.certify(&new);
        etcd.restart();
        insist(&store, set("b")).await;
    });
}

#[test]
fn users_log_in_and_sessions_that_end_are_opened_again() {
    needs!("etcd");
    needs!("etcdctl");
    let rt = runtime();
    // Simple tokens end after 300 s without use; those of this form after a time we choose.
    let keys = tempfile::tempdir().unwrap();
    let (public, private) = jwt_keys(keys.path());
    let token = format!("jwt,pub-key={public},priv-key={private},sign-method=ES256,ttl=2s");
    let etcd = Etcd::start_with(&["--auth-token", &token]);
    let mut with_login = EtcdSettings::new([etcd.endpoint()]);
    with_login.login = Some(Login {
        user: "root".into(),
        password: "pw".into(),
    });
    // As long as users are not switched on, a login does no harm.
    let early = EtcdStore::new(&with_login).unwrap();
    rt.block_on(async { early.create(set("early")).await }).unwrap();
    // The role must exist before it is granted.
    for args in [
        ["role", "add", "root"].as_slice(),
        &["user", "add", "root:pw"],
        &["user", "add", "guest:pw"],
        &["user", "grant-role", "root", "root"],
    ] {
        etcd.ctl(args);
    }
    etcd.ctl(&["auth", "enable"]);
    let store = EtcdStore::new(&with_login).unwrap();
    rt.block_on(async {
        store.create(set("a")).await.unwrap();
        let page = store
            .list(Kind::NetworkSet, &ListOptions::default())
            .await
            .unwrap();
        // Until the session has ended: each write after that needs a new one.
        let began = std::time::Instant::now();
        let mut n = 0;
        while began.elapsed() < Duration::from_millis(3_500) {
            store.create(set(&format!("n{n}"))).await.unwrap();
            n += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let mut watch = store.watch(Kind::NetworkSet, &page.watch_from).await.unwrap();
        assert!(watch.next().await.unwrap().is_ok());
        // A watch, too, may be the first to meet the session's end.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        let mut watch = store.watch(Kind::NetworkSet, &page.watch_from).await.unwrap();
        assert!(watch.next().await.unwrap().is_ok());
    });
    let refused = |user: &str, password: &str| {
        let mut wrong = with_login.clone();
        wrong.login = Some(Login {
            user: user.into(),
            password: password.into(),
        });
        runtime()
            .block_on(async { EtcdStore::new(&wrong).unwrap().create(set("z")).await })
            .unwrap_err()
    };
    for (user, password) in [("root", "wrong"), ("nobody", "pw"), ("guest", "pw")] {
        let e = refused(user, password);
        assert!(
            matches!(&e, StoreError::Unauthorised(t) if t.contains("password")),
            "{user}: {e}"
        );
        assert!(!e.to_string().contains("wrong"), "the password is not shown: {e}");
    }
    let nobody = EtcdStore::new(&EtcdSettings::new([etcd.endpoint()])).unwrap();
    let e = rt.block_on(async { nobody.create(set("z")).await }).unwrap_err();
    assert!(matches!(e, StoreError::Unauthorised(_)), "{e}");
}

/// A key pair for etcd's tokens.
fn jwt_keys(dir: &Path) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let (public, private) = (dir.join("jwt.pub"), dir.join("jwt.key"));
    std::fs::write(&public, key.public_key_pem()).unwrap();
    std::fs::write(&private, key.serialize_pem()).unwrap();
    (public.display().to_string(), private.display().to_string())
}
