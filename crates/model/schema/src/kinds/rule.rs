use caracal_api::{
    Action, EntityRule, HttpMatch, HttpPath, Icmp, Rule, RuleMetadata, ServiceAccountMatch, ServiceMatch,
};

use super::{NAME, SELECTOR};
use crate::{
    Reason::{Forbidden, Invalid, Required},
    shape::{object, words},
};

words! {
    Action { Allow, Deny, Log, Pass }
}

object! { Rule {
    action "action" .must();
    ip_version "ipVersion" .numbers(&[4, 6]);
    protocol "protocol";
    icmp "icmp";
    not_protocol "notProtocol";
    not_icmp "notICMP";
    source "source";
    destination "destination";
    http "http";
    metadata "metadata";
} [
    .rule(Invalid,
        "!has(self.http) || !has(self.protocol) || self.protocol == 'TCP' || self.protocol == 6",
        "http needs the protocol to be TCP, or absent")
    .rule(Forbidden,
        "self.action == 'Allow' || !has(self.http)",
        "http is only possible with action Allow")
    .rule(Forbidden,
        "!has(self.destination) || !has(self.destination.services) || (!has(self.destination.ports) || size(self.destination.ports) == 0) && (!has(self.destination.notPorts) || size(self.destination.notPorts) == 0)",
        "destination.ports and destination.notPorts cannot be with destination.services, whose endpoints say the ports")
    .rule(Invalid,
        "!has(self.icmp) || (has(self.protocol) && (self.protocol == 'ICMP' || self.protocol == 'ICMPv6' || self.protocol == 1 || self.protocol == 58))",
        "icmp needs the protocol to be ICMP or ICMPv6")
    .rule(Invalid,
        "(!has(self.protocol) || (self.protocol != 'ICMP' && self.protocol != 1)) || !has(self.ipVersion) || self.ipVersion == 4",
        "with protocol ICMP, ipVersion must be 4 or absent")
    .rule(Invalid,
        "(!has(self.protocol) || (self.protocol != 'ICMPv6' && self.protocol != 58)) || !has(self.ipVersion) || self.ipVersion == 6",
        "with protocol ICMPv6, ipVersion must be 6 or absent")
    .rule(Invalid,
        "(!has(self.notProtocol) || (self.notProtocol != 'ICMP' && self.notProtocol != 1)) || !has(self.ipVersion) || self.ipVersion == 4",
        "with notProtocol ICMP, ipVersion must be 4 or absent")
    .rule(Invalid,
        "(!has(self.notProtocol) || (self.notProtocol != 'ICMPv6' && self.notProtocol != 58)) || !has(self.ipVersion) || self.ipVersion == 6",
        "with notProtocol ICMPv6, ipVersion must be 6 or absent")
] }

object! { RuleMetadata {
    annotations "annotations";
} }

object! { Icmp {
    icmp_type "type" .within(0, 254);
    code "code" .within(0, 255);
} [
    .rule(Invalid, "!has(self.code) || has(self.type)", "a code needs a type")
] }

object! { EntityRule {
    nets "nets" .most(256) .set();
    selector "selector" .chars(SELECTOR);
    namespace_selector "namespaceSelector" .chars(SELECTOR);
    services "services";
    ports "ports" .most(50) .whole();
    not_nets "notNets" .most(256) .set();
    not_selector "notSelector" .chars(SELECTOR);
    not_ports "notPorts" .most(50) .whole();
    service_accounts "serviceAccounts";
} [
    .rule(Invalid,
        "!has(self.selector) || !self.selector.contains('global(')",
        "selector cannot use global(): only the namespaceSelector of a rule's source or destination can")
    .rule(Forbidden,
        "!has(self.services) || !has(self.namespaceSelector) || size(self.namespaceSelector) == 0",
        "namespaceSelector cannot be with services, which says the endpoints already")
    .rule(Forbidden,
        "!has(self.services) || !has(self.serviceAccounts)",
        "serviceAccounts cannot be with services, which says the endpoints already")
    .rule(Required,
        "!has(self.services) || size(self.services.name) > 0",
        "services needs the name of a service")
    .rule(Forbidden,
        "!has(self.services) || (!has(self.selector) || size(self.selector) == 0) && (!has(self.notSelector) || size(self.notSelector) == 0)",
        "selector and notSelector cannot be with services, which says the endpoints already")
    .rule(Forbidden,
        "!has(self.services) || (!has(self.nets) || size(self.nets) == 0) && (!has(self.notNets) || size(self.notNets) == 0)",
        "nets and notNets cannot be with services, which says the addresses already")
] }

object! { ServiceMatch {
    name "name" .chars(NAME);
    namespace "namespace" .chars(NAME);
} }

object! { ServiceAccountMatch {
    names "names" .set();
    selector "selector";
} }

object! { HttpMatch {
    methods "methods" .most(20) .whole();
    paths "paths" .most(20) .whole();
} }

object! { HttpPath {
    exact "exact" .chars(1024);
    prefix "prefix" .chars(1024);
} }
