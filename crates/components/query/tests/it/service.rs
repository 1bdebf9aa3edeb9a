//! Services as the destination of `caracal why`.

use caracal_query::why_with;

use crate::rig::{Done, data, golden, run};

fn why(args: &[&str]) -> Done {
    let (shop, services) = (data("shop.yaml"), data("services.yaml"));
    let all: Vec<&str> = ["-f", &shop, "-f", &services]
        .into_iter()
        .chain(args.iter().copied())
        .collect();
    run(why_with, &all, "")
}

#[test]
fn a_service_is_judged_pod_by_pod_behind_translation() {
    let done = why(&["shop/web", "svc:shop/cart", "80/tcp"]);
    assert_eq!((done.code, done.errors.as_str()), (0, ""), "{}", done.output);
    golden("service.txt", &done.output);
    // By its address, by the name of its port: the same.
    assert_eq!(why(&["shop/web", "10.96.0.10", "80/tcp"]).output, done.output);
    assert_eq!(why(&["shop/web", "svc:shop/cart", "web/tcp"]).output, done.output);
    // What the policy of the pod behind it blocks, the service does not help.
    let blocked = why(&["shop/web", "svc:shop/cart", "9100/tcp", "-o", "json"]);
    assert_eq!(blocked.code, 1, "{}", blocked.output);
    let read: serde_json::Value = serde_json::from_str(&blocked.output).unwrap();
    assert_eq!(read[0]["destination"]["name"], "shop/cart");
    assert!(
        read[0]["remarks"][0]
            .as_str()
            .unwrap()
            .contains("10.96.0.10:9100 (TCP) is translated to 10.65.1.1:9100"),
        "{read}"
    );
}

#[test]
fn without_an_address_of_its_own_the_pods_are_asked() {
    // `front` is headless, and has no pod of its name: no `svc:` is needed.
    let done = why(&["shop/cart", "front", "-n", "shop", "8080/tcp"]);
    assert!(
        done.output
            .contains("service shop/front has no address of its own"),
        "{done:?}"
    );
    assert!(done.output.contains("shop/web (pod on n1)"), "{done:?}");
}

#[test]
fn rules_may_name_a_service() {
    // The pods behind the service are what the rule allows, by their own ports.
    let done = why(&["default/visitor", "shop/cart", "8081/tcp"]);
    assert!(
        done.output
            .contains("egress of default/visitor: allowed by NetworkPolicy default/visitor egress[0]"),
        "{done:?}"
    );
    let done = why(&["default/visitor", "shop/cart", "8082/tcp"]);
    assert!(
        done.code == 1 && done.output.contains("egress of default/visitor: BLOCKED"),
        "{done:?}"
    );
}

#[test]
fn services_that_cannot_be_asked_say_why() {
    for (args, says) in [
        (
            &["shop/web", "svc:shop/cat", "80/tcp"][..],
            "there is shop/cart, shop/front",
        ),
        (
            &["shop/web", "svc:shop/cart", "81/tcp"],
            "its ports are 80/TCP web, 9100/TCP figures",
        ),
        (&["shop/web", "svc:shop/cart", "icmp"], "does not answer to this"),
        (&["shop/web", "10.96.0.11", "80/tcp"], "no pod behind port 80/TCP"),
    ] {
        let done = why(args);
        assert_eq!((done.code, done.output.as_str()), (2, ""), "{args:?}");
        assert!(done.errors.contains(says), "{args:?}: {}", done.errors);
    }
    let bad =
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {clusterIP: here, ports: [{port: 80}]}\n";
    let done = run(why_with, &["-f", "-", "a", "b", "80/tcp"], bad);
    assert!(
        done.code == 2
            && done
                .errors
                .contains("Service default/s: \"here\" is not an address"),
        "{done:?}"
    );
}
