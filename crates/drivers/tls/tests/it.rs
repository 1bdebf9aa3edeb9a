//! Two sides in one process: who is let in, what is said of files that cannot be used, and renewal.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;

use caracal_testkit::{Authority, Issued};
use caracal_tls::{ClientTls, Material, ServerTls, Source};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

fn identity(issued: &Issued) -> Option<(Source, Source)> {
    Some((
        Source::text("CERT", &issued.chain),
        Source::text("KEY", &issued.key),
    ))
}

fn client(authority: &Authority, who: Option<(Source, Source)>) -> ClientTls {
    let material = Material {
        authorities: Some(Source::text("CA", authority.pem())),
        identity: who,
    };
    ClientTls::new(material, &["h2"], "CA").unwrap()
}

async fn serve(material: Material) -> std::net::SocketAddr {
    let tls = Arc::new(ServerTls::new(material, &["h2"], "CERT").unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut accepted = tls.accept(listener);
    tokio::spawn(async move {
        while let Some(Ok(mut stream)) = accepted.recv().await {
            tokio::spawn(async move { stream.write_all(b"hello").await });
        }
    });
    addr
}

/// What the server said, or why it did not come to that.
async fn greet(tls: &ClientTls, addr: std::net::SocketAddr, host: &str) -> Result<String, String> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let mut stream = tls.connect(host, stream).await.map_err(|e| e.to_string())?;
    let mut text = [0; 5];
    stream.read_exact(&mut text).await.map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

#[tokio::test]
async fn both_sides_must_come_from_the_right_authority() {
    let (ours, other) = (Authority::new("one"), Authority::new("two"));
    let addr = serve(Material {
        authorities: Some(Source::text("CA", ours.pem())),
        identity: identity(&ours.issue(&["store.example"])),
    })
    .await;
    let good = client(&ours, identity(&ours.issue(&["somebody"])));
    assert_eq!(greet(&good, addr, "store.example").await.as_deref(), Ok("hello"));
    let wrong_name = greet(&good, addr, "127.0.0.1").await.unwrap_err();
    assert!(wrong_name.contains("not valid for name"), "{wrong_name}");
    let nobody = greet(&client(&ours, None), addr, "store.example")
        .await
        .unwrap_err();
    assert!(nobody.contains("CertificateRequired"), "{nobody}");
    let stranger = client(&ours, identity(&other.issue(&["somebody"])));
    assert!(greet(&stranger, addr, "store.example").await.is_err());
    let misled = client(&other, identity(&ours.issue(&["somebody"])));
    let unknown = greet(&misled, addr, "store.example").await.unwrap_err();
    assert!(unknown.contains("invalid peer certificate"), "{unknown}");
}

#[tokio::test]
async fn a_certificate_whose_time_is_over_is_refused_on_both_sides() {
    let authority = Authority::new("one");
    let server = |issued: Issued| Material {
        authorities: Some(Source::text("CA", authority.pem())),
        identity: identity(&issued),
    };
    let late = serve(server(authority.issue_expired(&["store.example"]))).await;
    let good = client(&authority, identity(&authority.issue(&["somebody"])));
    let refused = greet(&good, late, "store.example").await.unwrap_err();
    assert!(refused.contains("expired"), "{refused}");
    let addr = serve(server(authority.issue(&["store.example"]))).await;
    let old = client(&authority, identity(&authority.issue_expired(&["somebody"])));
    let refused = greet(&old, addr, "store.example").await.unwrap_err();
    assert!(refused.contains("CertificateExpired"), "{refused}");
}

#[tokio::test]
async fn a_renewed_certificate_is_used_and_a_broken_one_is_not() {
    let (old, new) = (Authority::new("one"), Authority::new("two"));
    let dir = tempfile::tempdir().unwrap();
    let put = |issued: Issued| issued.write(dir.path(), "tls");
    let (chain, key) = put(old.issue(&["localhost"]));
    let addr = serve(Material {
        authorities: None,
        identity: Some((Source::file("CERT", &chain), Source::file("KEY", &key))),
    })
    .await;
    let (by_old, by_new) = (client(&old, None), client(&new, None));
    assert!(greet(&by_old, addr, "localhost").await.is_ok());
    std::fs::write(&chain, "no PEM at all").unwrap();
    assert!(
        greet(&by_old, addr, "localhost").await.is_ok(),
        "the old one stays"
    );
    put(new.issue(&["localhost"]));
    assert!(greet(&by_new, addr, "localhost").await.is_ok());
    assert!(greet(&by_old, addr, "localhost").await.is_err());
}

#[test]
fn what_cannot_be_used_is_named() {
    let authority = Authority::new("one");
    let Issued { chain, key } = authority.issue(&["a"]);
    let other_key = authority.issue(&["b"]).key;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ca.pem");
    let of = |material: Material| {
        ClientTls::new(material, &[], "ETCD_CA_CERT_FILE")
            .unwrap_err()
            .to_string()
    };
    let ca = |source| Material {
        authorities: Some(source),
        identity: None,
    };
    let pair = |chain: &str, key: &str| Material {
        authorities: Some(Source::text("CA", authority.pem())),
        identity: identity(&Issued {
            chain: chain.to_owned(),
            key: key.to_owned(),
        }),
    };
    let none = of(Material::default());
    assert!(
        none.contains("ETCD_CA_CERT_FILE") && none.contains("not set"),
        "{none}"
    );
    let missing = of(ca(Source::file("ETCD_CA_CERT_FILE", &path)));
    assert!(
        missing.contains("ETCD_CA_CERT_FILE") && missing.contains("ca.pem"),
        "{missing}"
    );
    std::fs::write(&path, "").unwrap();
    let empty = of(ca(Source::file("ETCD_CA_CERT_FILE", &path)));
    assert!(
        empty.contains("no certificate") && empty.contains("ca.pem"),
        "{empty}"
    );
    let swapped = of(pair(&key, &chain));
    assert!(
        swapped.contains("CERT") && swapped.contains("no certificate"),
        "{swapped}"
    );
    let pairless = of(pair(&chain, &other_key));
    assert!(pairless.contains("not for the private key of KEY"), "{pairless}");
    let cut = of(pair(&chain, &key[..key.len() / 2]));
    assert!(cut.contains("KEY: it holds no private key"), "{cut}");
    assert!(!cut.contains(&key[40..60]), "nothing of the key is shown");
}
