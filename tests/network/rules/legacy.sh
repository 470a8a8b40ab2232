# Rule sets through iptables-legacy, and what is read back. Run natively and in a sandbox: both say the same.
set -x
iptables-legacy -S; iptables-legacy -t nat -S
iptables-legacy -t nat -A OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:5353
iptables-legacy -t nat -A OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:5353
iptables-legacy -t nat -A POSTROUTING -s 127.0.0.11/32 -p udp -m udp --sport 5353 -j SNAT --to-source :53
iptables-legacy -t nat -N ISTIO_OUT
iptables-legacy -t nat -A OUTPUT -p tcp -j ISTIO_OUT
iptables-legacy -t nat -A ISTIO_OUT -m owner --uid-owner 1337 -j RETURN
iptables-legacy -t nat -A ISTIO_OUT -p tcp -m multiport --dports 8080,9000:9010 -m comment --comment "hi there" -j REDIRECT --to-ports 15001
iptables-legacy -P INPUT DROP
iptables-legacy -A INPUT -i lo -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
iptables-legacy -A INPUT -m state --state NEW -m limit --limit 5/min -p tcp -m tcp --dport 5353 -j ACCEPT
iptables-legacy -A OUTPUT -p tcp -m tcp --dport 81 -j REJECT --reject-with tcp-reset
iptables-legacy -A OUTPUT -m iprange --dst-range 10.0.0.1-10.0.0.9 -m addrtype ! --dst-type LOCAL -m mark --mark 0x1/0xf -j DROP
iptables-legacy -t mangle -A PREROUTING -p tcp -j MARK --set-xmark 0x5/0xff
iptables-legacy -t raw -A OUTPUT -p udp -j CT --notrack
ip6tables-legacy -A INPUT -p tcp -m tcp --dport 5 -j REJECT
ip6tables-legacy -t nat -A OUTPUT -p tcp -j REDIRECT --to-ports 77
iptables-legacy-save >/tmp/saved; cat /tmp/saved; ip6tables-legacy-save
iptables-legacy-restore -c </tmp/saved; iptables-legacy-save -c
iptables-legacy -A INPUT -p udp --tcp-flags SYN SYN; iptables-legacy -A OUTPUT -i lo; iptables-legacy -A INPUT -j REDIRECT
iptables-legacy -t nat -A INPUT -j DNAT --to 1.2.3.4; iptables-legacy -N A; iptables-legacy -N B
iptables-legacy -A A -j B; iptables-legacy -A B -j A; iptables-legacy -A INPUT -j A
iptables-legacy -t nosuch -L
iptables-legacy -F; iptables-legacy -t nat -X ISTIO_OUT; iptables-legacy -D INPUT 9
iptables-legacy -t nat -D OUTPUT 1; iptables-legacy -t nat -Z; iptables-legacy -L -n -v
sort /proc/net/ip_tables_names
