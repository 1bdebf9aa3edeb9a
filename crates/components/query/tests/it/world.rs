//! Where the objects come from, and where the answer goes.

use std::io::ErrorKind;
use std::sync::Arc;

use caracal_analysis::State;
use caracal_query::{calicoq_with, why_with};
use caracal_store::Store;
use caracal_store_memory::MemoryStore;

use crate::rig::{Program, data, run, run_over, run_stuck};

#[test]
fn the_datastore_says_the_same_as_the_manifests() {
    let text = std::fs::read_to_string(data("shop.yaml")).unwrap();
    let (mut state, mut problems) = (State::default(), Vec::new());
    state.read("shop.yaml", &text, &mut problems);
    assert_eq!(problems, Vec::<String>::new());
    state.complete();
    let store = Arc::new(MemoryStore::etcd());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for object in state.objects() {
        runtime.block_on(store.create(object.clone())).unwrap();
    }
    let shop = data("shop.yaml");
    let asked: [(Program, &[&str]); 3] = [
        (
            why_with,
            &["shop/web", "shop/cart", "9100/tcp", "--kernel", "never"],
        ),
        (calicoq_with, &["host", "n1"]),
        (calicoq_with, &["eval", "pcns.team == 'shop'"]),
    ];
    for (program, args) in asked {
        let live = run_over(program, args, "", Some(store.clone()));
        let from_files: Vec<&str> = args.iter().copied().chain(["-f", &shop]).collect();
        let offline = run(program, &from_files, "");
        let without_origin: Vec<&str> = offline
            .output
            .lines()
            .filter(|l| !l.contains("shop.yaml"))
            .collect();
        assert_eq!((live.code, live.errors.as_str()), (offline.code, ""), "{args:?}");
        assert_eq!(
            live.output.lines().collect::<Vec<_>>(),
            without_origin,
            "{args:?}"
        );
    }
}

#[test]
fn a_full_disk_is_an_error_and_a_reader_that_left_is_none() {
    let shop = data("shop.yaml");
    let why: &[&str] = &["-f", &shop, "shop/web", "shop/cart", "9100/tcp"];
    let eval: &[&str] = &["-f", &shop, "eval", "all()"];
    let (code, errors) = run_stuck(why_with, why, ErrorKind::StorageFull);
    assert!(code == 2 && errors.contains("cannot write"), "{code} {errors}");
    let (code, errors) = run_stuck(calicoq_with, eval, ErrorKind::StorageFull);
    assert!(code == 1 && errors.contains("cannot write"), "{code} {errors}");
    assert_eq!(
        run_stuck(why_with, why, ErrorKind::BrokenPipe),
        (1, String::new())
    );
    assert_eq!(
        run_stuck(calicoq_with, eval, ErrorKind::BrokenPipe),
        (0, String::new())
    );
}

#[test]
fn directories_of_mixed_kinds_are_read_to_the_bottom() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().display().to_string();
    let done = run(calicoq_with, &["-f", &empty, "eval", "all()"], "");
    assert!(done.code == 1 && done.errors.contains("holds no"), "{done:?}");
    let below = dir.path().join("a/b");
    std::fs::create_dir_all(&below).unwrap();
    std::fs::copy(data("shop.yaml"), below.join("shop.yml")).unwrap();
    let deployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d}\n";
    std::fs::write(dir.path().join("d.yaml"), deployment).unwrap();
    std::fs::write(dir.path().join("README.md"), "not: [a manifest").unwrap();
    let done = run(calicoq_with, &["-f", &empty, "eval", "app == 'cart'"], "");
    assert!(done.code == 0 && done.output.contains("shop.cart"), "{done:?}");
}
