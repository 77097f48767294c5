#!/bin/sh
# Sets up an etcd cluster for one federation: who may write what under /campanile/<federation>/.
#
#   roles.sh FEDERATION DEPARTMENT…
#
# Run it as an etcd administrator; it may be run again, for example when a department joins. `etcdctl` is taken from the
# PATH, and where and as whom to connect from its own variables:
#
#   ETCDCTL_ENDPOINTS=https://etcd-1.example:2379 ETCDCTL_CACERT=ca.pem ETCDCTL_CERT=root.pem ETCDCTL_KEY=root.key \
#       deploy/etcd/roles.sh hk fsd edb hko had isd
#
# What it gives:
#
#   role             nodes/<department>/   nodes/    roster/   values/
#   <f>-reader                             read      read      read
#   <f>-<department> read, write
#   <f>-governance                                   write
#   <f>-activation                                             write
#
# A user `<department>` has the roles of its department, reader and activation; a user `governance` those of governance
# and reader. Users have no password: etcd runs with --client-cert-auth, and the common name of the client certificate is
# the user, so no token ever expires. That does not work through etcd's gRPC proxy or its HTTP gateway.
#
# Rights in etcd keep order; they are not what Campanile trusts. Rosters and hints are signed, and a forged one is ignored
# wherever it comes from. Use etcd 3.5.33, 3.6.14 or newer: before, a watch could read past these rights
# (GHSA-xg4h-6gfc-h4m8), and in every 3.4 it still can.
#
# Authentication is switched on at the end, by hand, once a user `root` can log in with a certificate:
#
#   etcdctl user add root --no-password && etcdctl user grant-role root root && etcdctl auth enable
set -eu

[ $# -ge 2 ] || { echo "usage: roles.sh FEDERATION DEPARTMENT…" >&2; exit 2; }
export ETCDCTL_API=3
federation=$1
shift
for word in "$federation" "$@"; do
    case $word in
        '' | *[!a-z0-9-]*) echo "roles.sh: '$word' is not a lower-case id" >&2; exit 2 ;;
        governance | root) echo "roles.sh: '$word' is the name of a user of etcd; a department cannot have it" >&2; exit 2 ;;
    esac
done
prefix=/campanile/$federation

# Without a server `etcdctl role add` waits for ever; asking for health does not.
timeout 15 etcdctl endpoint health >/dev/null 2>&1 || {
    echo "roles.sh: no etcd answers at ${ETCDCTL_ENDPOINTS:-127.0.0.1:2379}; check it, and the ETCDCTL_ variables" >&2
    exit 1
}

# Adds a role or user unless it is there. `etcdctl` says "already exists" and fails, which is no failure here; anything
# else is.
add() {
    kind=$1 name=$2
    shift 2
    if ! said=$(etcdctl "$kind" add "$name" "$@" 2>&1); then
        case $said in *already\ exists*) ;; *) echo "roles.sh: $kind $name: $said" >&2; exit 1 ;; esac
    fi
}
grant() { etcdctl role grant-permission "$1" --prefix=true "$2" "$prefix/$3" >/dev/null; }
give() {
    if ! said=$(etcdctl user grant-role "$1" "$2" 2>&1); then
        case $said in *already*) ;; *) echo "roles.sh: user $1, role $2: $said" >&2; exit 1 ;; esac
    fi
}

add role "$federation-reader"
grant "$federation-reader" read nodes/
grant "$federation-reader" read roster/
grant "$federation-reader" read values/

add role "$federation-governance"
grant "$federation-governance" readwrite roster/
add user governance --no-password
give governance "$federation-governance"
give governance "$federation-reader"

add role "$federation-activation"
grant "$federation-activation" readwrite values/

for department in "$@"; do
    add role "$federation-$department"
    # The slash at the end matters: without it `ed` could write for `edb`.
    grant "$federation-$department" readwrite "nodes/$department/"
    add user "$department" --no-password
    give "$department" "$federation-$department"
    give "$department" "$federation-reader"
    give "$department" "$federation-activation"
done

echo "roles.sh: $prefix is set up for: $*" >&2
