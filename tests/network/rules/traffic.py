"""What becomes of traffic under the rules of traffic.sh, as sockets see it."""
import socket, struct, os, sys, threading, time
def show(*a): print(*a, flush=True)
def listen(port, addr='0.0.0.0', f=socket.AF_INET):
    s=socket.socket(f); s.setsockopt(1,2,1); s.bind((addr,port)); s.listen(5); return s
def odst(c, v6=False):
    try:
        if v6:
            b=c.getsockopt(41,80,28); return socket.inet_ntop(10,b[8:24]),struct.unpack('!H',b[2:4])[0]
        b=c.getsockopt(0,80,16); return socket.inet_ntoa(b[4:8]),struct.unpack('!H',b[2:4])[0]
    except OSError as e: return e.strerror
u=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); u.bind(('127.0.0.11',5353))
c=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); c.settimeout(2); c.connect(('127.0.0.11',53)); c.send(b'q')
d,a=u.recvfrom(100); show('dns udp',d,a==c.getsockname(), u.getsockname()); u.sendto(b'r',a); show(c.recvfrom(100), c.getpeername())
c2=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); c2.settimeout(2); c2.sendto(b'q2',('127.0.0.11',53)); d,a=u.recvfrom(100); u.sendto(b'r2',a); show(c2.recvfrom(100))
l=listen(5354); c=socket.socket(); c.connect(('127.0.0.11',53)); k,a=l.accept(); show('dns tcp',c.getpeername(),k.getsockname(),a==c.getsockname(),odst(k),odst(c))
c.send(b'x'); show(k.recv(5)); c.close(); k.close()
l=listen(15001)
def out(ip,port):
    c=socket.socket(); c.settimeout(0.5)
    try: c.connect((ip,port))
    except OSError as e: return show('connect',ip,port,type(e).__name__,e.errno)
    show('connected',ip,port,c.getpeername(),c.getsockname()[0]); return c
c=out('10.9.0.1',80)
if c: k,a=l.accept(); show('redirected',k.getsockname(),odst(k),a[0])
lp=listen(81); out('127.0.0.1',81); out('127.0.0.1',82); out('127.0.0.1',83); out('127.0.0.1',89)
l90=listen(90); c=out('127.0.0.1',90); k,_=l90.accept(); show(odst(k), odst(socket.socket()))
def udp(ip,port,conn=True):
    c=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); c.settimeout(0.3)
    r=[]
    for i in range(2):
        try:
            if conn and i==0: c.connect((ip,port))
            r.append(c.send(b'x') if conn else c.sendto(b'x',(ip,port)))
        except OSError as e: r.append(e.errno)
    try: c.recv(5)
    except OSError as e: r.append(e.errno or str(e))
    show('udp',port,conn,r)
for p in (84,85,86,87,88):
    udp('127.0.0.1',p); udp('127.0.0.1',p,False)
l6=listen(77,'::',socket.AF_INET6); c=socket.socket(socket.AF_INET6); c.connect(('::1',7)); k,_=l6.accept(); show('v6',k.getsockname()[:2],odst(k,True),c.getpeername()[:2])
pid=os.fork()
if pid==0:
    os.setuid(1337); l=listen(8080,'10.9.0.1'); out('10.9.0.1',8080); os._exit(0)
os.wait()
