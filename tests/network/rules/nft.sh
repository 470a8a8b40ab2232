# Rule sets through nft, and what is read back. Run natively and in a sandbox: both say the same, but for the place in a
# command that an error is about.
set -x
exec 2>&1
nft list ruleset
cat > /tmp/r.nft <<'N'
table inet filter {
	set blocked {
		type ipv4_addr
		flags interval
		elements = { 10.1.0.0/16, 192.168.5.1-192.168.5.9 }
	}
	set pairs {
		type ipv4_addr . inet_service
		elements = { 10.0.0.1 . 80, 10.0.0.2 . 443 }
	}
	map ports {
		type inet_service : verdict
		elements = { 22 : accept, 23 : drop, 24 : jump other }
	}
	chain other {
		counter return
	}
	chain input {
		type filter hook input priority filter; policy drop;
		ct state established,related accept
		ct state invalid counter drop
		iif "lo" accept
		iifname "eth0" ip saddr @blocked drop
		ip saddr . tcp dport @pairs accept
		tcp dport { 80, 443, 8000-8010 } ct state new limit rate 10/second burst 20 packets accept comment "web"
		tcp dport vmap @ports
		udp dport 53 meta mark set 0x5 accept
		ip protocol icmp icmp type echo-request limit rate 5/minute accept
		meta l4proto ipv6-icmp icmpv6 type { nd-neighbor-solicit, nd-router-advert } accept
		log prefix "dropped: " level info
		reject with icmpx type admin-prohibited
	}
	chain output {
		type filter hook output priority 0; policy accept;
		meta skuid 1000 tcp dport 25 reject with tcp reset
		ip daddr 10.5.0.0/24 tcp flags & (syn|ack) == syn counter packets 0 bytes 0 drop
		oifname != "lo" meta mark & 0xff == 0x10 drop
		fib daddr type local accept
	}
}
table ip nat {
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		tcp dport 8080 redirect to :80
		ip daddr 10.9.9.9 tcp dport 80 dnat to 10.0.0.7:8080
	}
	chain output {
		type nat hook output priority -100; policy accept;
		ip daddr 127.0.0.11 udp dport 53 counter dnat to 127.0.0.11:5353
		tcp dport 7 redirect to :77
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		oifname "eth0" masquerade
		ip saddr 10.0.0.0/8 snat to 192.168.1.1
	}
}
table ip6 t6 {
	chain c {
		type filter hook forward priority 10; policy accept;
		ip6 saddr fd00::/8 counter drop
	}
}
N
nft -f /tmp/r.nft
nft list ruleset > /tmp/listed; cat /tmp/listed
nft -a list table ip nat
nft flush ruleset; nft list ruleset
nft -f /tmp/listed; nft list ruleset >/tmp/again; diff /tmp/again /tmp/listed && echo same
nft add rule inet filter input tcp dport 99 accept; nft insert rule inet filter input tcp dport 98 accept
nft add element inet filter blocked { 172.16.0.0/12 }; nft delete element inet filter pairs { 10.0.0.2 . 443 }
nft list set inet filter blocked; nft list set inet filter pairs; nft list chain inet filter other
nft delete chain inet filter other
nft delete set inet filter pairs
nft delete rule inet filter input handle 999
nft add table ip x; nft add chain ip x a; nft add chain ip x b '{ type filter hook input priority 0; }'; nft add rule ip x a jump nosuch
nft add rule ip x b jump a; nft add rule ip x a jump a
nft -f - <<'N'
add table ip y
add chain ip y z
add rule ip y nochain accept
N
nft list tables
nft delete table ip x; nft delete table ip nosuch; nft list tables; nft create table ip nat
nft flush chain ip nat output; nft list chain ip nat output; nft list sets; nft list chains
