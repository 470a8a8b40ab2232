# The rules of traffic.sh in the form of nft. $1: traffic.py.
ip link set lo up 2>/dev/null
ip addr add 10.9.0.1/24 dev lo 2>/dev/null
nft -f - <<'N'
table ip nat {
	chain output {
		type nat hook output priority -100; policy accept;
		ip daddr 127.0.0.11 udp dport 53 counter dnat to 127.0.0.11:5353
		ip daddr 127.0.0.11 tcp dport 53 counter dnat to 127.0.0.11:5354
		meta skuid 1337 return
		ip daddr 10.0.0.0/8 meta l4proto tcp counter redirect to :15001
	}
	chain post {
		type nat hook postrouting priority srcnat;
		ip saddr 127.0.0.11 udp sport 5353 counter snat to :53
	}
}
table inet f {
	set closed { type inet_service; flags interval; elements = { 81, 200-300 } }
	map what { type inet_service : verdict; elements = { 82 : jump reset, 83 : jump prohibited } }
	chain reset { counter reject with tcp reset }
	chain prohibited { counter reject with icmpx type host-unreachable }
	chain input {
		type filter hook input priority 0;
		tcp dport @closed counter drop
		meta l4proto tcp tcp dport vmap @what
		udp dport 85 counter reject
		udp dport { 87, 187 } counter drop
		ct state established accept
		tcp dport { 90, 5354 } ct state new counter accept
	}
	chain output {
		type filter hook output priority 0;
		udp dport 84 counter drop
		udp dport 86 counter reject with icmpx type port-unreachable
	}
}
table ip6 nat {
	chain output {
		type nat hook output priority -100;
		tcp dport 7 counter redirect to :77
	}
}
N
timeout 60 python3 "$1"
nft list ruleset
