//! ClusterNetworkPolicy of `policy.networking.k8s.io`, which `caracal-convert` makes policies of.

use caracal_api::LabelSelector;

use crate::{
    schema::{Schema, Type},
    shape::Shape,
};

/// The schema of its objects.
pub(crate) fn cluster_network_policy() -> Schema {
    let spec = Schema::object()
        .with("tier", Schema::string().words(&["Admin", "Baseline"]).must())
        .with(
            "priority",
            Schema::of_type(Type::Integer)
                .format("int32")
                .within(0, 1000)
                .must(),
        )
        .with(
            "subject",
            Schema::object()
                .with("namespaces", LabelSelector::shape())
                .with("pods", pods())
                .one_field()
                .must(),
        )
        .with("ingress", rules("from", peer()))
        .with("egress", rules("to", peer().with("networks", networks())));
    let status = Schema::object().with(
        "conditions",
        Schema::list(super::condition()).keyed("type").must(),
    );
    Schema::object()
        .with("apiVersion", Schema::string())
        .with("kind", Schema::string())
        .with("metadata", Schema::object().must())
        .with("spec", spec.must())
        .with("status", status)
}

fn rules(peers: &str, peer: Schema) -> Schema {
    let rule = Schema::object()
        .with("name", Schema::string().chars(100))
        .with(
            "action",
            Schema::string().words(&["Accept", "Deny", "Pass"]).must(),
        )
        .with(peers, Schema::list(peer).entries(1, 25).must())
        .with("protocols", Schema::list(protocol()).entries(1, 25));
    Schema::list(rule).most(25)
}

fn pods() -> Schema {
    Schema::object()
        .with("namespaceSelector", LabelSelector::shape())
        .with("podSelector", LabelSelector::shape().must())
}

fn peer() -> Schema {
    Schema::object()
        .with("namespaces", LabelSelector::shape())
        .with("pods", pods())
        .one_field()
}

fn networks() -> Schema {
    let network = Schema::string().chars(43).plain_rule(
        "isCIDR(self)",
        "is no range of addresses such as 10.0.0.0/8 or fd00::/64",
    );
    Schema::list(network).entries(1, 25).set()
}

fn protocol() -> Schema {
    let number = || Schema::of_type(Type::Integer).format("int32").within(1, 65535);
    let range = Schema::object()
        .with("start", number().must())
        .with("end", number().must())
        .plain_rule("self.start < self.end", "the first port must be below the last");
    let port = Schema::object()
        .with("number", number())
        .with("range", range)
        .one_field();
    let transport = Schema::object().with("destinationPort", port).some_field();
    Schema::object()
        .with("tcp", transport.clone())
        .with("udp", transport.clone())
        .with("sctp", transport)
        .with("destinationNamedPort", Schema::string())
        .one_field()
}
