//! `calicoq` over a datastore that runs, embedded and etcd, by a file that names it: the answers are those about manifests.

use std::path::Path;
use std::sync::Arc;

use caracal_analysis::State;
use caracal_query::calicoq_with;
use caracal_store::Store;
use caracal_store_embedded::{Engine, Listen, Options, Server};
use caracal_testkit::{Etcd, needs};

use crate::calicoq::ASKED;
use crate::rig::{data, golden, run};

/// Writes what the tests' manifests say, and what a cluster makes of it.
fn fill(runtime: &tokio::runtime::Runtime, store: &dyn Store) {
    let text = std::fs::read_to_string(data("shop.yaml")).expect("the file is there");
    let (mut state, mut problems) = (State::default(), Vec::new());
    state.read("shop.yaml", &text, &mut problems);
    assert_eq!(problems, Vec::<String>::new());
    state.complete();
    for object in state.objects() {
        runtime.block_on(store.create(object.clone())).expect("it is new");
    }
}

/// Asks everything of the datastore at an endpoint.
fn ask(dir: &Path, endpoint: &str) {
    let file = dir.join("calicoctl.cfg");
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {{datastoreType: etcdv3, etcdEndpoints: '{endpoint}'}}\n"
    );
    std::fs::write(&file, text).expect("a file");
    let file = file.display().to_string();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let store: Arc<dyn Store> = {
        let _inside = runtime.enter();
        caracal_datastore::from_process(Some(Path::new(&file)))
            .expect("a good file")
            .1
    };
    fill(&runtime, store.as_ref());
    for (name, args) in ASKED {
        let with: Vec<&str> = args.iter().copied().chain(["-c", &file]).collect();
        let done = run(calicoq_with, &with, "");
        assert_eq!((done.code, done.errors.as_str()), (0, ""), "{args:?}");
        golden(name, &done.output);
        let debug: Vec<&str> = with.iter().copied().chain(["-d"]).collect();
        let debugged = run(calicoq_with, &debug, "");
        assert_eq!((debugged.code, &debugged.output), (0, &done.output), "{args:?}");
        assert!(debugged.errors.contains("4 endpoints"), "{debugged:?}");
    }
    let none = run(
        calicoq_with,
        &["-c", &file, "policy", "shop/knp.default.carts"],
        "",
    );
    assert!(
        none.code == 1 && none.errors.contains("there is \"shop/knp.default.cart\""),
        "{none:?}"
    );
}

#[test]
fn the_embedded_store_says_what_the_manifests_say() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("s.sock");
    let engine = Engine::open(&dir.path().join("data"), Options::default()).unwrap();
    let listen = Listen {
        socket: Some(socket.clone()),
        ..Listen::default()
    };
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let served = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let server = Server::bind(engine, listen).await.unwrap();
            ready.send(()).unwrap();
            let ended = async {
                let _ = stopped.await;
            };
            server.serve(ended).await.unwrap();
        });
    });
    is_ready.recv().unwrap();
    ask(dir.path(), &format!("unix://{}", socket.display()));
    drop(stop);
    served.join().unwrap();
}

#[test]
fn etcd_says_what_the_manifests_say() {
    needs!("etcd");
    let dir = tempfile::tempdir().unwrap();
    let etcd = Etcd::start();
    ask(dir.path(), &etcd.endpoint());
}
