//! The end of containers: the agent takes away what is theirs, and leaves what is not.

use std::{io::Write, os::unix::net::UnixStream, path::PathBuf, sync::Arc};

use caracal_agent_api::{
    pods,
    v1::{AssignRequest, DetachReply, DetachRequest, PodAnswer, pod_answer::Answer, pod_call::Ask},
};
use caracal_api::{Kind, ResourceKey};
use caracal_datastore::Settings;
use caracal_store::{Store, StoreError};
use caracal_testkit::netns;
use serde_json::json;

use crate::world::{LONG, Node, Pod, World, block_on, run};

const PODS: u32 = 8;

/// The datastore, and how it names itself.
fn store(world: &World) -> (Arc<dyn Store>, String) {
    let socket = world.dir.path().join("store.sock").display().to_string();
    let store = caracal_datastore::connect(&Settings::Embedded { socket }).unwrap();
    let name = store.describe();
    (store, name)
}

/// A pod as the plugin makes it, with an address of its own beside.
fn pod(world: &World, node: &Node, number: u32) -> Pod {
    let pod = node.pod(
        &format!("p{number}"),
        &format!("10.65.1.{number}"),
        &format!("fd65::1:{number}"),
    );
    run(&format!(
        "ip -n {} link set {} alias {}",
        node.name,
        pod.interface,
        alias(&pod)
    ));
    pod.announce(world, json!({}));
    node.programmed(&pod);
    pod
}

fn alias(pod: &Pod) -> String {
    format!("c-{}/eth0/net", pod.name)
}

fn handle(pod: &Pod) -> String {
    format!("net.c-{}", pod.name)
}

fn endpoint(pod: &Pod) -> String {
    format!("{}-k8s-{}-eth0", pod.node, pod.name)
}

fn link(node: &Node, pod: &Pod) -> Option<u32> {
    let mut rtnl = caracal_link::Rtnl::open_in(&node.ns).unwrap();
    rtnl.link(pod.interface.as_str()).unwrap().map(|l| l.index)
}

fn request(node: &Node, pod: &Pod, datastore: &str) -> DetachRequest {
    DetachRequest {
        datastore: datastore.to_owned(),
        node: node.name.clone(),
        netns_device: node.ns.id().device,
        netns_inode: node.ns.id().inode,
        link: link(node, pod).unwrap_or_default(),
        link_name: pod.interface.clone(),
        link_alias: alias(pod),
        namespace: "default".into(),
        name: endpoint(pod),
        container_id: format!("c-{}", pod.name),
        handles: vec![handle(pod)],
    }
}

/// The only answer to a call.
fn ask(socket: &PathBuf, ask: Ask) -> Answer {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream.write_all(&pods::frame(&pods::call(ask)).unwrap()).unwrap();
    let answer: Option<PodAnswer> = pods::read(&mut stream).unwrap();
    let end: Option<PodAnswer> = pods::read(&mut stream).unwrap();
    assert_eq!(end, None);
    answer.unwrap().answer.unwrap()
}

fn assign(socket: &PathBuf, node: &str, handle: String, datastore: &str) {
    let request = AssignRequest {
        datastore: datastore.to_owned(),
        node: node.to_owned(),
        handle,
        ..AssignRequest::default()
    };
    let answer = ask(socket, Ask::Assign(request));
    assert!(matches!(answer, Answer::Assign(_)), "{answer:?}");
}

/// All at once, each over a connection of its own, as plugins do.
fn detach(socket: &PathBuf, requests: Vec<DetachRequest>) -> Vec<DetachReply> {
    let one = |request| match ask(socket, Ask::Detach(request)) {
        Answer::Detach(reply) => reply,
        other => panic!("{other:?}"),
    };
    std::thread::scope(|all| {
        let asking: Vec<_> = requests.into_iter().map(|r| all.spawn(move || one(r))).collect();
        asking.into_iter().map(|a| a.join().unwrap()).collect()
    })
}

/// Which of the pod's endpoint and handle are stored.
async fn stored(store: &dyn Store, pod: &Pod) -> (bool, bool) {
    let keys = [
        ResourceKey::namespaced(Kind::WorkloadEndpoint, "default", &endpoint(pod)),
        ResourceKey::global(Kind::IpamHandle, &handle(pod)),
    ];
    let mut found = [false; 2];
    for (key, found) in keys.iter().zip(&mut found) {
        *found = match store.get(key).await {
            Ok(_) => true,
            Err(StoreError::NotFound(_)) => false,
            Err(e) => panic!("{key}: {e}"),
        };
    }
    found.into()
}

#[test]
fn netns_ended_pods_go_together_and_those_of_others_stay() {
    netns!();
    let world = World::new();
    world.put(Kind::IpPool, "p", json!({"cidr": "10.65.0.0/24"}));
    let mut node = world.node("n1");
    node.up();
    let socket = node.dir.join("run/pods.sock");
    // Nothing is asked here: the connection is made where it is used.
    let (_, datastore) = block_on(async { store(&world) });
    let pods: Vec<Pod> = (1..=PODS).map(|n| pod(&world, &node, n)).collect();
    let stays = pod(&world, &node, 99);
    for p in pods.iter().chain([&stays]) {
        assign(&socket, &node.name, handle(p), &datastore);
    }

    // Not the one that is meant.
    let good = request(&node, &stays, &datastore);
    let wrong = [
        DetachRequest {
            netns_inode: good.netns_inode + 1,
            name: String::new(),
            ..good.clone()
        },
        DetachRequest {
            link_alias: "c-other/eth0/net".into(),
            name: String::new(),
            ..good.clone()
        },
        DetachRequest {
            link: 0,
            datastore: "another".into(),
            ..good.clone()
        },
        DetachRequest {
            link: 0,
            container_id: "c-other".into(),
            handles: Vec::new(),
            ..good.clone()
        },
    ];
    let replies = wrong.map(|w| detach(&socket, vec![w]).remove(0));
    for (reply, says) in replies.iter().zip(["another network namespace", "link number"]) {
        assert!(reply.link_left.contains(says), "{reply:?}");
        assert_eq!(reply.addresses_left, "the link is still there");
    }
    for left in [&replies[2].endpoint_left, &replies[2].addresses_left] {
        assert!(left.contains("this agent uses"), "{:?}", replies[2]);
    }
    assert_eq!(
        replies[3],
        DetachReply::default(),
        "nothing there is this container's"
    );
    let all_there = |p: &Pod| {
        let stored = block_on(async {
            let (store, _) = store(&world);
            stored(store.as_ref(), p).await
        });
        (link(&node, p).is_some(), stored)
    };
    assert_eq!(all_there(&stays), (true, (true, true)));

    // All others at once, one of them twice.
    let mut requests: Vec<_> = pods.iter().map(|p| request(&node, p, &datastore)).collect();
    requests.push(requests[0].clone());
    for reply in detach(&socket, requests) {
        assert_eq!(reply, DetachReply::default());
    }
    for p in &pods {
        assert_eq!(all_there(p), (false, (false, false)), "{}", p.name);
    }
    assert_eq!(all_there(&stays), (true, (true, true)));
    // Again: what is gone is no error.
    let again = DetachRequest {
        link: good.link + 1000,
        ..request(&node, &pods[0], &datastore)
    };
    assert_eq!(detach(&socket, vec![again]), [DetachReply::default()]);
    assert!(node.metric("caracal_cni_releases_at_once_sum").unwrap() >= f64::from(PODS));
}
