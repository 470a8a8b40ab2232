# Docker's and Istio's rules, a filter with states, and refusals of all kinds. $1: traffic.py.
ip link set lo up 2>/dev/null
ip addr add 10.9.0.1/24 dev lo 2>/dev/null
iptables-legacy -t nat -A OUTPUT -d 127.0.0.11/32 -p udp -m udp --dport 53 -j DNAT --to-destination 127.0.0.11:5353
iptables-legacy -t nat -A OUTPUT -d 127.0.0.11/32 -p tcp -m tcp --dport 53 -j DNAT --to-destination 127.0.0.11:5354
iptables-legacy -t nat -A POSTROUTING -s 127.0.0.11/32 -p udp -m udp --sport 5353 -j SNAT --to-source :53
iptables-legacy -t nat -N ISTIO
iptables-legacy -t nat -A OUTPUT -p tcp -j ISTIO
iptables-legacy -t nat -A ISTIO -m owner --uid-owner 1337 -j RETURN
iptables-legacy -t nat -A ISTIO -d 10.0.0.0/8 -p tcp -j REDIRECT --to-ports 15001
iptables-legacy -A INPUT -p tcp --dport 81 -j DROP
iptables-legacy -A INPUT -p tcp --dport 82 -j REJECT --reject-with tcp-reset
iptables-legacy -A INPUT -p tcp --dport 83 -j REJECT --reject-with icmp-host-prohibited
iptables-legacy -A OUTPUT -p udp --dport 84 -j DROP
iptables-legacy -A INPUT -p udp --dport 85 -j REJECT
iptables-legacy -A OUTPUT -p udp --dport 86 -j REJECT
iptables-legacy -A INPUT -p udp --dport 87 -j DROP
iptables-legacy -A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT
iptables-legacy -A INPUT -p tcp --dport 5354 -m conntrack --ctstate NEW -j ACCEPT
iptables-legacy -A INPUT -p tcp --dport 90 -m conntrack --ctstate NEW -j ACCEPT
ip6tables-legacy -t nat -A OUTPUT -p tcp --dport 7 -j REDIRECT --to-ports 77
timeout 60 python3 "$1"
# Connections that are established: how they end is not followed segment by segment.
grep ASSURED /proc/net/nf_conntrack | sed -E 's/ [0-9]+ [A-Z_]+ src/ N STATE src/; s/[sd]port=[3-6][0-9]{4}/port=E/g; s/mark=.*//' | sort
# The data of established connections is counted by Linux only.
iptables-legacy -L -v -n -x | grep -v policy | sed -E 's/^ *[0-9]+ +[0-9]+ (.*ESTABLISHED)/N N \1/'
iptables-legacy -t nat -L -v -n -x | grep -v policy
