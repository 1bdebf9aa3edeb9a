#!/usr/bin/env python3
"""load.py --netns NS --dir D [--wait 20]: writes the files that gen_workload.py made in D into the etcd on
127.0.0.1:2379 of NS, in file-name order, under the keys of Calico's layout, with what else a prepared cluster
has (ClusterInformation, the default tier). Waits up to --wait seconds for etcd. Prints how many objects it wrote.
"""
import argparse, base64, ctypes, glob, http.client, json, os, time, uuid
libc = ctypes.CDLL(None, use_errno=True)
ROOT = '/calico/resources/v3/projectcalico.org/'
PLURAL = {'IPPool': 'ippools', 'Profile': 'profiles', 'Node': 'nodes', 'GlobalNetworkPolicy': 'globalnetworkpolicies',
          'NetworkPolicy': 'networkpolicies', 'WorkloadEndpoint': 'workloadendpoints', 'Tier': 'tiers',
          'ClusterInformation': 'clusterinformations', 'FelixConfiguration': 'felixconfigurations',
          'GlobalNetworkSet': 'globalnetworksets'}
V3 = 'projectcalico.org/v3'
CLUSTER = [
    {'apiVersion': V3, 'kind': 'ClusterInformation', 'metadata': {'name': 'default'},
     'spec': {'clusterGUID': '0123456789abcdef0123456789abcdef', 'clusterType': 'bench', 'datastoreReady': True}},
    {'apiVersion': V3, 'kind': 'Tier', 'metadata': {'name': 'default'}, 'spec': {'order': 1000000, 'defaultAction': 'Deny'}},
]

def b64(s): return base64.b64encode(s.encode()).decode()

def put(o):
    m = o['metadata']
    m['uid'] = str(uuid.uuid4()); m['creationTimestamp'] = '2026-01-01T00:00:00Z'
    if o['kind'].endswith('Policy'): o['spec'].setdefault('tier', 'default')
    name = m['namespace'] + '/' + m['name'] if 'namespace' in m else m['name']
    return {'request_put': {'key': b64(ROOT + PLURAL[o['kind']] + '/' + name), 'value': b64(json.dumps(o, separators=(',', ':')))}}

def objects(d):
    yield from CLUSTER
    for f in sorted(glob.glob(os.path.join(d, '*.yaml'))):
        for line in open(f):
            if line.startswith('{'): yield json.loads(line)

def connect(seconds):
    end = time.monotonic() + seconds
    while True:
        try:
            c = http.client.HTTPConnection('127.0.0.1', 2379, timeout=30)
            c.request('GET', '/health'); r = c.getresponse(); body = json.loads(r.read())
            if str(body.get('health')).lower() == 'true': return c
        except (OSError, ValueError): pass
        if time.monotonic() > end: raise SystemExit('etcd does not answer on 127.0.0.1:2379')
        time.sleep(0.05)

def main():
    p = argparse.ArgumentParser()
    p.add_argument('--netns', required=True); p.add_argument('--dir', required=True); p.add_argument('--wait', type=float, default=20)
    a = p.parse_args()
    if libc.setns(os.open('/run/netns/' + a.netns, os.O_RDONLY), 0x40000000) != 0: raise OSError(ctypes.get_errno(), 'setns')
    c = connect(a.wait); n = 0; ops = []
    def flush():
        c.request('POST', '/v3/kv/txn', json.dumps({'success': ops})); r = c.getresponse(); b = r.read()
        if r.status != 200: raise SystemExit('etcd: ' + b.decode())
        ops.clear()
    for o in objects(a.dir):
        ops.append(put(o)); n += 1
        if len(ops) == 100: flush()
    if ops: flush()
    print('wrote', n)

main()
