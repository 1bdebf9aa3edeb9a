//! DEL while the datastore is away: bounded in time, and finished by a later call.

use std::{
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use caracal_agent_api::{
    SOCKET_ENV, STILL_ATTACHING,
    v1::{DetachReply, pod_answer::Answer},
};
use caracal_api::{Kind, ResourceKey};
use caracal_link::Rtnl;
use caracal_store::StoreError;
use caracal_sys::NetNs;
use caracal_testkit::netns;
use serde_json::json;

use super::{
    agent::{frame, says},
    lab::{JOURNAL, Lab, addresses},
};

fn kept() -> usize {
    std::fs::read_dir(JOURNAL).map_or(0, |entries| entries.flatten().count())
}

fn away() -> StoreError {
    StoreError::Unavailable("connection refused".into())
}

/// Longer than any test waits.
const ALWAYS: usize = 100_000;

#[test]
fn netns_del_without_the_store_is_finished_by_the_next_call() {
    netns!();
    let lab = Lab::new();
    NetNs::create("a").unwrap();
    NetNs::create("b").unwrap();
    lab.ok(lab.request("ADD", "c1", "a"));
    lab.store.fail_next(ALWAYS, &away());
    let begun = Instant::now();
    lab.ok(lab.request("DEL", "c1", "a"));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(lab.host_links(), Vec::<String>::new(), "the link goes at once");
    assert_eq!(kept(), 1);
    // A second DEL is the same one.
    lab.ok(lab.request("DEL", "c1", "a"));
    assert_eq!(kept(), 1);
    lab.store.clear_faults();
    assert_eq!(lab.taken(), 2, "nothing was given back yet");

    let other = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=other";
    lab.ok(lab.request("ADD", "c2", "b").env("CNI_ARGS", other));
    assert_eq!((kept(), lab.handles()), (0, vec!["net1.c2".to_owned()]));
    assert_eq!((lab.taken(), lab.endpoints().len()), (2, 1));
    lab.ok(lab.request("DEL", "c2", "b").env("CNI_ARGS", other));
    lab.assert_empty("after both");
}

#[test]
fn netns_what_may_still_be_written_is_looked_for_later() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    lab.ok(lab.request("ADD", "c1", "pod"));
    let kinds = [Kind::WorkloadEndpoint, Kind::IpamHandle, Kind::IpamBlock];
    let stored: Vec<_> = kinds.into_iter().flat_map(|k| lab.list(k)).collect();
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("agent.sock");
    let reply = frame(Answer::Detach(DetachReply {
        endpoint_left: STILL_ATTACHING.into(),
        addresses_left: STILL_ATTACHING.into(),
        ..DetachReply::default()
    }));
    let agent = says(&socket, &reply);
    lab.ok(lab
        .request("DEL", "c1", "pod")
        .env(SOCKET_ENV, socket.to_str().unwrap()));
    agent.join().unwrap();
    lab.assert_empty("what is there now goes at once");
    assert_eq!(kept(), 1);
    // What the agent had asked for is written only now.
    for resource in stored {
        lab.store.derive(resource);
    }
    let other = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=other";
    let later = || lab.ok(lab.request("DEL", "c2", "b").env("CNI_ARGS", other));
    later();
    assert_eq!(
        (kept(), lab.endpoints().len(), lab.taken()),
        (1, 1, 2),
        "too early"
    );
    for entry in std::fs::read_dir(JOURNAL).unwrap() {
        let file = std::fs::File::open(entry.unwrap().path()).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60))
            .unwrap();
    }
    later();
    assert_eq!(kept(), 0);
    lab.assert_empty("after the next call");
}

#[test]
fn netns_a_container_that_is_added_again_is_not_released_later() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    let first = lab.ok(lab.request("ADD", "c1", "pod"));
    lab.store.fail_next(ALWAYS, &away());
    lab.ok(lab.request("DEL", "c1", "pod"));
    lab.store.clear_faults();
    assert_eq!(kept(), 1);
    let again = lab.ok(lab.request("ADD", "c1", "pod"));
    assert_eq!(addresses(&again), addresses(&first), "it held them all the time");
    assert_eq!((kept(), lab.taken()), (0, 2));
    lab.ok(lab.request("CHECK", "c1", "pod").conf("prevResult", again));
}

#[test]
fn netns_a_newer_container_of_the_pod_is_not_touched_by_a_late_release() {
    netns!();
    let lab = Lab::new();
    for name in ["old", "new"] {
        NetNs::create(name).unwrap();
    }
    lab.ok(lab.request("ADD", "c-old", "old"));
    lab.store.fail_next(ALWAYS, &away());
    lab.ok(lab.request("DEL", "c-old", "old"));
    lab.store.clear_faults();
    // Its ADD finishes the DEL of the older one, after its own work.
    let new = lab.ok(lab.request("ADD", "c-new", "new"));
    assert_eq!((kept(), lab.handles()), (0, vec!["net1.c-new".to_owned()]));
    assert_eq!(lab.endpoints()[0].container_id, "c-new");
    lab.ok(lab.request("CHECK", "c-new", "new").conf("prevResult", new));
}

#[test]
fn netns_an_add_that_cannot_be_undone_is_undone_later() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    let store = lab.store.clone();
    let mut request = lab.request("ADD", "c1", "pod");
    request.after_step = Some(crate::call::AfterStep(Box::new(move |step| {
        if matches!(step, crate::plan::Step::ConfigureInner(_)) {
            store.fail_next(ALWAYS, &away());
        }
        Ok(())
    })));
    let (code, text) = lab.fails(request);
    assert!(code == 11 && text.contains("connection refused"), "{text}");
    assert_eq!((lab.host_links(), kept()), (Vec::new(), 1));
    lab.store.clear_faults();
    let late = lab.request("GC", "", "").conf("cniVersion", json!("1.1.0"));
    lab.ok(late.conf("cni.dev/valid-attachments", json!([])));
    assert_eq!(kept(), 0);
    lab.assert_empty("after the next call");
}

#[test]
fn netns_what_cannot_be_kept_is_an_error() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    lab.ok(lab.request("ADD", "c1", "pod"));
    // A file where the folder should be, as good as a disk that takes nothing.
    std::fs::write(JOURNAL, "").unwrap();
    lab.store.fail_next(ALWAYS, &away());
    let begun = Instant::now();
    let (code, text) = lab.fails(lab.request("DEL", "c1", "pod"));
    let named = ["connection refused", "datastore (", "journal: ", JOURNAL];
    let missing: Vec<_> = named.iter().filter(|n| !text.contains(**n)).collect();
    assert!(code == 11 && missing.is_empty(), "{missing:?}: {text}");
    // Patience for the datastore, and not a second one for the journal.
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
    lab.store.clear_faults();
    lab.ok(lab.request("DEL", "c1", "pod"));
    lab.assert_empty("the runtime called again");
}

#[test]
fn netns_one_that_cannot_be_finished_does_not_keep_others_waiting() {
    netns!();
    let lab = Lab::new();
    for container in ["c1", "c2"] {
        NetNs::create(container).unwrap();
    }
    let request = |command: &str, container: &str| {
        let args = format!("K8S_POD_NAMESPACE=default;K8S_POD_NAME={container}");
        lab.request(command, container, container).env("CNI_ARGS", &args)
    };
    // Whichever of the two comes first.
    for (bad, good) in [("c1", "c2"), ("c2", "c1")] {
        for container in ["c1", "c2"] {
            lab.ok(request("ADD", container));
        }
        lab.store.fail_next(ALWAYS, &away());
        for container in ["c1", "c2"] {
            lab.ok(request("DEL", container));
        }
        lab.store.clear_faults();
        assert_eq!((kept(), lab.handles().len()), (2, 2));
        let key = ResourceKey::global(Kind::IpamHandle, &format!("net1.{bad}"));
        let handles = lab.list(Kind::IpamHandle);
        let handle = handles.into_iter().find(|h| h.key() == key).unwrap();
        lab.store.put_malformed(&key, "half of it is missing");
        // What the call itself is about does not matter.
        lab.call(request("DEL", "c3"));
        assert_eq!((kept(), lab.endpoints().len()), (1, 0), "{good} waits for {bad}");
        lab.store.derive(handle);
        lab.ok(request("DEL", "c3"));
        assert_eq!(kept(), 0);
        lab.assert_empty("after both");
    }
}

#[test]
fn netns_garbage_in_the_journal_is_removed() {
    netns!();
    let lab = Lab::new();
    NetNs::create("pod").unwrap();
    std::fs::create_dir_all(JOURNAL).unwrap();
    std::fs::write(Path::new(JOURNAL).join("x.json"), "not json").unwrap();
    lab.ok(lab.request("DEL", "c1", "pod"));
    assert_eq!(kept(), 0);
}

#[test]
fn netns_gc_finds_links_without_anything_else() {
    netns!();
    let lab = Lab::new();
    for name in ["a", "b"] {
        NetNs::create(name).unwrap();
    }
    let other = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=other";
    lab.ok(lab.request("ADD", "c1", "a"));
    let living = lab.ok(lab.request("ADD", "c2", "b").env("CNI_ARGS", other));
    // What ADD leaves when it is killed right after it made the link, with another IPAM plugin.
    let mut rtnl = Rtnl::open().unwrap();
    for (name, alias) in [("caliaaaa", "c3/eth0/net1"), ("calibbbb", "c4/eth0/net2")] {
        let pair = caracal_link::VethSpec {
            name,
            peer_name: &name.replace("cali", "peer"),
            ..Default::default()
        };
        rtnl.create_veth(&pair).unwrap();
        let change = caracal_link::LinkChange {
            alias: Some(alias),
            ..Default::default()
        };
        rtnl.set_link(name, &change).unwrap();
    }
    let gc = lab.request("GC", "", "").conf("cniVersion", json!("1.1.0"));
    let valid = json!([{"containerID": "c2", "ifname": "eth0"}]);
    lab.ok(gc.conf("cni.dev/valid-attachments", valid));
    let links = lab.host_links();
    assert!(
        links.contains(&"calibbbb".to_owned()),
        "another network's stays: {links:?}"
    );
    assert_eq!((links.len(), lab.taken()), (2, 2), "{links:?}");
    let check = lab.request("CHECK", "c2", "b").env("CNI_ARGS", other);
    lab.ok(check.conf("prevResult", living));
}
