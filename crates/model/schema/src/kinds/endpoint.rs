use caracal_api::{EndpointPort, HostEndpointSpec};

use super::NAME;
use crate::{Reason::Invalid, shape::object};

object! { HostEndpointSpec {
    node "node" .chars(NAME);
    interface_name "interfaceName" .chars(15);
    expected_ips "expectedIPs" .set();
    profiles "profiles" .set();
    ports "ports" .whole();
} [
    .rule(Invalid,
        "(has(self.interfaceName) && size(self.interfaceName) > 0) || (has(self.expectedIPs) && size(self.expectedIPs) > 0)",
        "needs interfaceName, expectedIPs or both to find the interface")
    .rule(Invalid,
        "has(self.node) && size(self.node) > 0",
        "a host endpoint needs its node")
] }

object! { EndpointPort {
    name "name" .must();
    protocol "protocol" .must();
    port "port" .within(1, 65535) .must();
} }
