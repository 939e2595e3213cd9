#!/usr/bin/env bash
# A gate made of nngcat and a MessagePack encoder: greets, presents one ticket, lets the people through, and says so.
#
#   nngcat-gate.sh tcp://127.0.0.1:8461 gate-g1 'PF1:…'
#   nngcat-gate.sh tls+tcp://paifang-server:8461 gate-g1 'PF1:…' --cacert ca.pem --cert device.pem --key device.key
#
# nngcat checks the server's certificate against the name in the address: let /etc/hosts call the server paifang-server.
# Exit code 0: somebody passed; 1: refused; 2: no answer.
set -euo pipefail

work=$1 device=$2 code=$3
shift 3
python=${PYTHON:-python3}
boot=$(od -An -N8 -tx1 /dev/urandom | tr -d ' \n')
seq=0
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# JSON on stdin -> MessagePack on stdout, and back
pack() { "$python" -c 'import sys, json, msgpack; sys.stdout.buffer.write(msgpack.packb(json.load(sys.stdin)))'; }
unpack() { "$python" -c 'import sys, json, msgpack; print(json.dumps(msgpack.unpackb(sys.stdin.buffer.read())))'; }
field() { "$python" -c 'import sys, json; print(json.load(sys.stdin).get(sys.argv[1], ""))' "$1"; }
quoted() { "$python" -c 'import sys, json; print(json.dumps(sys.argv[1]))' "$1"; }

# ask TYPE FIELDS: one request; the same bytes again until they are answered, and again while the server says "not now"
ask() {
    local try pause=0.1
    seq=$((seq + 1))
    printf '{"type":"%s","v":1,"device":"%s","boot":"%s","seq":%d,"at":%s%s}' \
        "$1" "$device" "$boot" "$seq" "$(date +%s.%N | cut -c 1-14)" "${2:+,$2}" | pack > "$folder/request"
    for try in 1 2 3 4 5 6 7 8; do
        if nngcat --req --dial "$work" "${tls[@]}" --send-timeout 3 --recv-timeout 3 --raw \
            --file "$folder/request" > "$folder/reply" \
            && [ -s "$folder/reply" ] && reply=$(unpack < "$folder/reply")
        then
            case $(field code <<< "$reply") in
                unavailable | too_many) ;;
                *) return 0 ;;
            esac
        fi
        sleep "$pause"
        pause=0.5
    done
    echo "no answer from $work" >&2
    exit 2
}

tls=("$@")
ask hello '"firmware":"nngcat","barrier":"closed","open_grants":[]'
echo "hello: $reply"
ask scan "\"nonce\":\"$boot-1\",\"kind\":\"code\",\"value\":$(quoted "$code")"
echo "scan: $reply"
if [ "$(field type <<< "$reply")" != grant ] || [ "$(field state <<< "$reply")" != open ]; then
    echo "stays closed: $(field text_zh <<< "$reply") $(field text_en <<< "$reply")"
    exit 1
fi
grant=$(field grant <<< "$reply")
people=$(($(field pax <<< "$reply") - $(field passed <<< "$reply")))
echo "opens for $people: $(field text_zh <<< "$reply") $(field text_en <<< "$reply")"
for ((person = 1; person <= people; person++)); do
    ask pass "\"grant\":$grant,\"direction\":\"entry\",\"kind\":\"granted\""
    echo "passed: $reply"
done
ask passend "\"grant\":$grant,\"nonce\":\"$boot-1\",\"passed\":$people,\"why\":\"complete\""
echo "over: $reply"
