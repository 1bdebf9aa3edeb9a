//! Each sentence about the meaning of policy, by example (`docs/policy-semantics.md`). Judged here by a model of the
//! kernel, and in the lab's tests by packets through a kernel: whoever judges, the objects, the engine and the dataplane
//! must be of one opinion, and that must be what is written here.

#[path = "sentences/forwarding.rs"]
mod forwarding;
#[path = "sentences/hosts.rs"]
mod hosts;
#[path = "sentences/kubernetes.rs"]
mod kubernetes;
#[path = "sentences/refused.rs"]
mod refused;
#[path = "sentences/rules.rs"]
mod rules;
#[path = "sentences/selectors.rs"]
mod selectors;
#[path = "sentences/tiers.rs"]
mod tiers;

use std::collections::BTreeMap;

use caracal_api::{Kind, Resource};
use caracal_net::Proto;
use caracal_oracle::{FailsafePort, Host, Packet, Reading, Trip, Verdict, Way, travel};
use caracal_policy_fuzz::{Case, NODE};
use caracal_update::{EndpointSlice, SliceKey, SlicePort, SliceUpdate};
use serde_json::{Value, json};

/// Says whether the one packet of a case gets through, when all agree about that.
pub(crate) type Judge<'a> = &'a mut dyn FnMut(&Case) -> bool;

/// Who is where: eth0 has 172.16.0.1 and 192.0.2.0/24 behind it, eth1 has 172.16.1.1, fd16:1::1 and 203.0.113.0/24; a pod
/// has 10.0.0.1 behind cali0; its profile is open.
pub(crate) struct World<'a> {
    case: Case,
    judge: Judge<'a>,
}

/// A sentence: its name and its example.
pub(crate) type Sentence = (&'static str, fn(&mut World<'_>));

macro_rules! sentences {
    ($($module:ident { $($name:ident,)* })*) => {
        /// All sentences.
        pub(crate) const ALL: &[Sentence] = &[$($((stringify!($name), $module::$name),)*)*];
    };
}

sentences! {
    tiers {
        tiers_go_by_order_then_by_name_and_those_without_order_come_last,
        policy_of_a_tier_that_does_not_exist_is_enforced_behind_all_others_and_its_end_denies,
        policies_go_by_order_and_those_without_order_come_last,
        ties_are_broken_by_name_namespace_and_kind_as_one_text,
        in_a_tie_bytes_decide_and_behind_a_name_comes_a_slash,
        kinds_and_namespaces_keep_policies_of_one_name_apart,
        the_end_of_a_tier_acts_only_in_directions_that_an_enforced_policy_of_it_governs,
        a_tier_that_passes_at_its_end_leads_to_the_next_and_the_last_to_the_profiles,
        a_policy_governs_the_directions_of_its_types_whatever_rules_it_has,
        a_stored_policy_without_types_governs_both_directions,
        a_policy_that_is_written_without_types_is_given_those_of_its_rules,
        staged_policies_decide_nothing_and_count_for_no_end,
        staged_policies_do_what_was_foretold_in_the_place_of_those_of_their_names,
        a_staged_kubernetes_policy_governs_egress_only_if_it_has_rules_for_it_or_says_so,
        allow_and_deny_are_the_last_word_and_log_goes_on,
        pass_skips_the_rest_of_its_tier_and_leads_from_the_last_one_to_the_profiles,
        a_policy_without_a_matching_rule_leaves_it_to_the_next_of_its_tier,
        without_profiles_and_with_one_that_does_not_exist_everything_is_denied,
        profiles_are_asked_in_their_order_and_pass_in_one_leads_to_the_next,
    }
    rules {
        all_criteria_must_hold_and_of_a_list_one,
        nets_of_the_other_family_alone_switch_a_rule_off,
        a_negated_catch_all_switches_a_rule_off_and_a_positive_one_holds_for_its_family,
        a_rule_with_an_ip_version_is_for_that_family,
        icmp_is_of_ipv4_and_icmpv6_of_ipv6,
        icmp_by_type_and_code_and_all_but_those,
        protocols_by_name_and_number_and_all_but_one,
        a_range_of_ports_has_both_its_ends_and_not_ports_exclude,
        a_rule_may_have_any_number_of_ports_and_nets,
        a_named_port_is_that_of_endpoints_that_the_selector_selects,
        named_ports_and_numbers_are_one_list,
        a_destination_service_is_its_addresses_with_its_ports,
        a_source_service_is_its_addresses_at_any_port,
        a_service_is_matched_behind_translation_and_not_by_its_own_address,
        endpoints_of_services_count_ready_or_not_once_or_twice_and_names_and_missing_ports_do_not,
        workloads_reach_the_host_over_ipv6_by_the_same_rules,
    }
    selectors {
        each_operator_selects_what_it_says,
        a_namespaced_policy_is_for_its_own_namespace,
        a_rule_of_a_namespaced_policy_is_scoped_only_if_it_selects,
        a_negated_selector_alone_means_strangers_too_but_not_in_a_namespaced_policy,
        a_selector_and_its_negation_are_both_needed,
        namespaces_are_selected_by_their_labels_and_all_means_those_in_one,
        service_accounts_are_matched_by_name_and_by_label,
        service_accounts_and_a_negated_selector_must_both_hold_and_no_account_is_no_criterion,
        endpoints_have_the_labels_of_their_profiles_unless_their_own_say_otherwise,
        a_pod_cannot_say_itself_in_which_namespace_or_account_it_is,
        a_global_policy_may_be_for_some_namespaces_or_service_accounts,
        all_beside_a_selector_of_namespaces_means_those_in_one_also_within_an_expression,
        network_sets_are_selected_like_endpoints_also_those_of_everything,
        a_network_set_of_a_namespace_is_of_that_namespace,
        an_endpoint_whose_labels_change_is_selected_anew,
    }
    hosts {
        an_endpoint_with_a_name_is_found_by_the_name_only_and_one_without_by_any_address,
        of_several_endpoints_the_first_by_name_has_the_interface_however_it_is_found,
        the_endpoint_for_all_interfaces_is_for_those_that_have_none,
        the_directions_are_those_of_the_interface,
        without_policy_and_profile_only_failsafe_ports_are_open_and_the_default_profile_opens_all,
        forwarded_traffic_is_governed_only_by_policy_that_asks_for_it,
        forward_policy_of_one_direction_leaves_the_other_alone_and_asks_no_profile,
        the_host_reaches_its_workloads_unpoliced,
        a_workload_reaches_the_host_by_its_own_policy_and_the_action_and_no_host_policy,
        neighbour_discovery_of_workloads_is_always_heard,
        failsafe_ports_are_open_to_their_peers_and_never_for_what_is_forwarded,
        failsafe_ports_come_before_untracked_and_pre_dnat_policy_and_answers_count_before_tracking,
        the_end_of_untracked_and_pre_dnat_tiers_passes_whatever_the_tier_says,
        what_untracked_or_pre_dnat_policy_allows_is_not_asked_again_of_that_endpoint,
        pre_dnat_policy_sees_where_the_packet_was_sent_and_all_others_where_it_goes,
        what_the_host_sends_is_judged_behind_the_translation_of_its_destination,
        untracked_policy_is_ignored_on_all_interfaces_at_once,
        untracked_policy_allows_answers_only_by_rules_of_their_own,
        workloads_have_no_untracked_or_pre_dnat_policy_of_their_own,
        the_endpoint_for_all_interfaces_governs_what_workloads_forward_too,
        a_staged_policy_decides_nothing_for_hosts_either,
        a_workload_interface_that_nobody_knows_is_closed_and_a_spoofed_source_too,
        prefixes_that_a_workload_may_send_from_are_open_only_where_spoofing_is_allowed,
    }
    forwarding {
        what_is_forwarded_to_a_services_address_that_nobody_translated_is_stopped,
        service_ranges_are_those_of_the_bgp_configuration_for_all_nodes,
        service_loops_end_behind_policy_that_allows_and_before_tracking_too,
        guests_of_openstack_ask_their_host_for_dhcp_dns_and_metadata_whatever_policy_says,
    }
    kubernetes {
        a_pod_is_an_endpoint_unless_it_has_its_nodes_network_or_no_node,
        a_pod_that_has_ended_is_no_endpoint,
        the_addresses_in_a_pods_annotations_come_before_those_of_its_status,
        a_pod_without_policy_is_open_by_its_namespace_and_its_account_has_no_rules,
        a_pods_namespace_and_account_are_where_it_is_whatever_its_labels_say,
        ports_of_a_pods_containers_have_names_init_containers_too,
        a_kubernetes_policy_governs_ingress_and_egress_only_if_it_says_so,
        a_kubernetes_policy_stands_in_tier_default_at_order_1000,
        cluster_policies_are_before_and_behind_all_others_by_tier_and_priority,
        accept_deny_and_pass_of_a_cluster_policy,
        subjects_and_peers_of_a_cluster_policy_are_namespaces_pods_and_networks,
        protocols_of_a_cluster_policy_are_ports_ranges_and_names,
        a_rule_that_cannot_be_converted_denies_everything_unless_it_accepts,
    }
    refused {
        a_refused_policy_lets_nothing_through_and_denies_all_where_it_may_have_denied,
        a_refused_policy_of_hosts_is_refused_at_its_place_on_the_way,
        a_refused_staged_policy_decides_nothing_and_a_refused_set_is_what_can_be_read,
    }
}

impl<'a> World<'a> {
    pub(crate) fn new(judge: Judge<'a>) -> Self {
        let case = Case {
            seed: 0,
            objects: vec![],
            slices: vec![],
            host: Host::default(),
            trips: vec![],
        };
        let mut world = Self { case, judge };
        world.clear();
        world
    }

    /// A new world.
    fn clear(&mut self) {
        let addresses = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
        self.case = Case {
            seed: 0,
            objects: vec![],
            slices: vec![],
            host: Host {
                interfaces: BTreeMap::from([
                    ("eth0".to_owned(), addresses(&["172.16.0.1"])),
                    ("eth1".to_owned(), addresses(&["172.16.1.1", "fd16:1::1"])),
                ]),
                workload_prefixes: vec!["cali".into()],
                ..Host::default()
            },
            trips: vec![],
        };
        self.put("Tier", "default", json!({"order": 1e6, "defaultAction": "Deny"}));
        let open = json!([{"action": "Allow"}]);
        self.put("Profile", "open", json!({"ingress": open, "egress": open}));
        self.pod(0, "red", json!({"app": "pod"}), json!({}));
    }

    /// The pod with a number in a namespace: `cali0` and 10.0.0.1 for number 0. From number 4 on pods are elsewhere.
    /// `more` overrides what it says.
    fn pod(&mut self, number: usize, namespace: &str, labels: Value, more: Value) -> &mut Self {
        let mut spec = json!({
            "node": if number < 4 { NODE } else { "elsewhere" }, "orchestrator": "k8s",
            "interfaceName": format!("cali{number}"), "profiles": ["open"],
            "ipNetworks": [format!("10.0.0.{}", number + 1), format!("fd00::{}", number + 1)],
        });
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let name = if number == 0 {
            "pod".to_owned()
        } else {
            format!("pod-{number}")
        };
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        self.object(json!({"kind": "WorkloadEndpoint", "metadata": metadata, "spec": spec}))
    }

    fn object(&mut self, object: Value) -> &mut Self {
        self.replace(serde_json::from_value::<Resource>(object).unwrap())
    }

    fn gone(&mut self, kind: Kind, name: &str) -> &mut Self {
        let is = |o: &Resource| o.kind() == kind && o.metadata().name == name;
        self.case.objects.retain(|o| !is(o));
        self
    }

    /// Endpoints of a service.
    fn slice(
        &mut self,
        namespace: &str,
        service: &str,
        addresses: &[&str],
        ports: &[(Proto, u16)],
    ) -> &mut Self {
        let port = |(proto, port): &(Proto, u16)| SlicePort {
            proto: *proto,
            port: *port,
        };
        let value = EndpointSlice {
            service: service.into(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            ports: ports.iter().map(port).collect(),
        };
        let name = format!("{service}-{}", self.case.slices.len());
        self.case.slices.push(SliceUpdate {
            key: SliceKey {
                namespace: namespace.into(),
                name: name.as_str().into(),
            },
            value: Some(value.into()),
        });
        self
    }

    fn put(&mut self, kind: &str, name: &str, spec: Value) -> &mut Self {
        let labels = if kind == "HostEndpoint" {
            json!({"host": name})
        } else {
            json!({})
        };
        let mut metadata = json!({"name": name, "labels": labels});
        if let Some((namespace, name)) = name.split_once('/') {
            metadata["namespace"] = namespace.into();
            metadata["name"] = name.into();
        }
        self.object(json!({"kind": kind, "metadata": metadata, "spec": spec}))
    }

    /// A pod of Kubernetes in the place of the one with a number; no endpoint if that is what it becomes.
    fn kube_pod(&mut self, number: usize, pod: Value) -> &mut Self {
        let interface = format!("cali{number}");
        self.case
            .objects
            .retain(|o| !matches!(o, Resource::WorkloadEndpoint(w) if w.spec.interface_name == interface));
        let converted = caracal_convert::pod(&serde_json::from_value(pod).unwrap());
        if let Some(mut converted) = converted {
            assert!(converted.problems.is_empty(), "{:?}", converted.problems);
            // The interface that is there; its name is of its namespace and name in a cluster.
            converted.object.spec.interface_name = interface;
            self.case.objects.push(converted.object.into());
        }
        self
    }

    fn replace(&mut self, object: impl Into<Resource>) -> &mut Self {
        let object = object.into();
        self.case.objects.retain(|o| o.key() != object.key());
        self.case.objects.push(object);
        self
    }

    fn kube_namespace(&mut self, namespace: Value) -> &mut Self {
        self.replace(caracal_convert::namespace(
            &serde_json::from_value(namespace).unwrap(),
        ))
    }

    fn kube_account(&mut self, account: Value) -> &mut Self {
        self.replace(caracal_convert::service_account(
            &serde_json::from_value(account).unwrap(),
        ))
    }

    fn kube_policy(&mut self, policy: Value) -> &mut Self {
        let converted = caracal_convert::network_policy(&serde_json::from_value(policy).unwrap());
        self.replace(converted.unwrap().object)
    }

    /// A cluster policy; one that has no meaning takes the place of what it was.
    fn kube_cluster_policy(&mut self, mut policy: Value) -> &mut Self {
        // What is null is not there.
        policy["spec"]
            .as_object_mut()
            .unwrap()
            .retain(|_, v| !v.is_null());
        let policy: caracal_convert::ClusterNetworkPolicy = serde_json::from_value(policy).unwrap();
        let name = format!(
            "{}{}",
            caracal_convert::CLUSTER_POLICY_PREFIX,
            policy.metadata.name
        );
        match caracal_convert::cluster_network_policy(&policy) {
            Ok(converted) => self.replace(converted.object),
            Err(_) => self.gone(Kind::GlobalNetworkPolicy, &name),
        }
    }

    /// All objects as an API server stores them when they are written so: with what they leave out filled in.
    fn written_anew(&mut self, change: impl Fn(&mut Resource)) -> &mut Self {
        for object in &mut self.case.objects {
            change(object);
            caracal_api::default_resource(object);
        }
        self
    }

    /// Endpoints of a service as Kubernetes' controller writes them.
    fn kube_slice(&mut self, slice: Value) -> &mut Self {
        let slice: caracal_api::Object<caracal_api::KubernetesEndpointSliceSpec> =
            serde_json::from_value(slice).unwrap();
        let converted = caracal_convert::endpoint_slice(&slice);
        assert!(converted.problems.is_empty(), "{:?}", converted.problems);
        let key = converted.object.key.clone();
        self.case.slices.retain(|s| s.key != key);
        self.case.slices.push(converted.object);
        self
    }

    /// A policy of pods: of a namespace if its name says one; `more` overrides what it says.
    fn rules(&mut self, name: &str, more: Value) -> &mut Self {
        let mut spec = json!({"tier": "default", "selector": "app == 'pod'", "types": ["Ingress"]});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        let kind = if name.contains('/') {
            "NetworkPolicy"
        } else {
            "GlobalNetworkPolicy"
        };
        self.put(kind, name, spec)
    }

    /// What is told of a packet beside what is enforced: its fate once all that is staged was done.
    fn foretold(&self, way: Way, packet: Packet) -> bool {
        let (desired, _) = caracal_policy_fuzz::desired(&self.case);
        travel(&desired, &self.case.host, Reading::Pending, &trip(way, packet)).verdict == Verdict::Allowed
    }

    /// All that is staged is done.
    fn commit(&mut self) {
        self.case = self.case.committed();
    }

    fn host(&mut self, name: &str, interface: &str, ips: &[&str]) -> &mut Self {
        let spec = json!({"node": NODE, "interfaceName": interface, "expectedIPs": ips});
        self.put("HostEndpoint", name, spec)
    }

    /// A global policy for host endpoints; `more` overrides what it says.
    fn policy(&mut self, name: &str, more: Value) -> &mut Self {
        let mut spec = json!({"tier": "default", "selector": "has(host)", "types": ["Ingress", "Egress"]});
        for (field, value) in more.as_object().unwrap() {
            spec[field] = value.clone();
        }
        self.put("GlobalNetworkPolicy", name, spec)
    }

    fn failsafe(&mut self, proto: Proto, port: u16, net: Option<&str>) -> &mut Self {
        let port = FailsafePort {
            proto,
            port,
            net: net.map(|n| n.parse().unwrap()),
        };
        self.case.host.failsafe_in.push(port);
        self.case.host.failsafe_out.push(port);
        self
    }

    /// Whether a packet gets through.
    fn passes(&mut self, trip: Trip) -> bool {
        self.case.trips = vec![trip];
        (self.judge)(&self.case)
    }

    /// TCP from behind eth0 to the pod.
    fn reached(&mut self, from: &str, port: u16) -> bool {
        self.gets(tcp(from, "10.0.0.1", port))
    }

    /// A packet from behind eth0 to the pod.
    fn gets(&mut self, packet: Packet) -> bool {
        self.passes(trip(through("eth0", "cali0"), packet))
    }

    /// TCP from the pod to behind eth0.
    fn reaches(&mut self, to: &str, port: u16) -> bool {
        self.passes(trip(through("cali0", "eth0"), tcp("10.0.0.1", to, port)))
    }

    /// TCP from a stranger to this host by an interface.
    fn enters(&mut self, interface: &str, port: u16) -> bool {
        self.passes(trip(incoming(interface), tcp("192.0.2.9", "172.16.0.1", port)))
    }

    /// TCP from this host to a stranger by an interface.
    fn leaves(&mut self, interface: &str, port: u16) -> bool {
        self.passes(trip(outgoing(interface), tcp("172.16.0.1", "192.0.2.9", port)))
    }

    /// TCP from a stranger behind one interface to one behind another.
    fn crosses(&mut self, from: &str, to: &str, port: u16) -> bool {
        let dst = if to == "eth0" { "192.0.2.77" } else { "203.0.113.9" };
        self.passes(trip(through(from, to), tcp("198.51.100.9", dst, port)))
    }
}

fn tcp(src: &str, dst: &str, port: u16) -> Packet {
    Packet::with_ports(
        src.parse().unwrap(),
        dst.parse().unwrap(),
        Proto::TCP,
        40000,
        port,
    )
}

fn incoming(from: &str) -> Way {
    Way::In { from: from.into() }
}

fn outgoing(to: &str) -> Way {
    Way::Out { to: to.into() }
}

fn through(from: &str, to: &str) -> Way {
    Way::Forward {
        from: from.into(),
        to: to.into(),
    }
}

fn trip(way: Way, packet: Packet) -> Trip {
    Trip {
        packet,
        original: None,
        way,
        spoofed: false,
    }
}

fn allow(port: u16) -> Value {
    json!([{"action": "Allow", "protocol": "TCP", "destination": {"ports": [port]}}])
}

fn deny(port: u16) -> Value {
    json!([{"action": "Deny", "protocol": "TCP", "destination": {"ports": [port]}}])
}
