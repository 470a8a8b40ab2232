import java.io.*;
import java.net.*;
import java.nio.*;
import java.nio.channels.*;
import java.nio.charset.StandardCharsets;
import java.nio.file.*;
import java.security.MessageDigest;
import java.util.*;
import java.util.stream.*;
import java.util.zip.*;

/** File, process and local-socket interfaces of the Java library. */
public class Main {
    public static void main(String[] args) throws Exception {
        Path d = Files.createDirectories(Path.of("d/e"));
        for (int i = 0; i < 200; i++) Files.writeString(d.resolve("f" + i), "line\n".repeat(i));
        try (Stream<Path> w = Files.walk(Path.of("d"))) { System.out.println(w.filter(Files::isRegularFile).mapToLong(p -> p.toFile().length()).sum()); }
        try (FileChannel c = FileChannel.open(Path.of("m"), StandardOpenOption.CREATE, StandardOpenOption.READ, StandardOpenOption.WRITE)) {
            MappedByteBuffer b = c.map(FileChannel.MapMode.READ_WRITE, 0, 1 << 20);
            for (int i = 0; i < 1 << 18; i++) b.putInt(i * 4, i);
            b.force();
            ByteBuffer r = ByteBuffer.allocateDirect(8);
            c.read(r, 400); r.flip();
            System.out.println(r.getInt() + " " + r.getInt() + " " + c.size());
            try (FileLock l = c.lock()) { System.out.println(l.isValid()); }
            try (FileChannel o = FileChannel.open(Path.of("o"), StandardOpenOption.CREATE, StandardOpenOption.WRITE)) { System.out.println(c.transferTo(100, 5000, o)); }
        }
        Files.createSymbolicLink(Path.of("l"), Path.of("m"));
        System.out.println(Files.isSymbolicLink(Path.of("l")) + " " + Files.size(Path.of("l")) + " " + Files.getPosixFilePermissions(d.resolve("f1")).size());
        for (String bad : List.of("none", "d", "m/x")) try { Files.readString(Path.of(bad)); } catch (IOException e) { System.out.println(e.getClass().getSimpleName() + " " + bad); }
        Files.move(Path.of("o"), Path.of("o2"), StandardCopyOption.ATOMIC_MOVE);
        Files.setLastModifiedTime(Path.of("o2"), java.nio.file.attribute.FileTime.fromMillis(1234567890123L));
        System.out.println(Files.getLastModifiedTime(Path.of("o2")));
        try (ZipOutputStream z = new ZipOutputStream(new FileOutputStream("z.zip"))) { for (int i = 0; i < 50; i++) { z.putNextEntry(new ZipEntry("e" + i)); z.write(new byte[i * 1000]); z.closeEntry(); } }
        try (ZipFile z = new ZipFile("z.zip")) { System.out.println(z.size() + " " + z.stream().mapToLong(ZipEntry::getSize).sum()); }
        System.out.println(new java.math.BigInteger(1, MessageDigest.getInstance("SHA-256").digest(Files.readAllBytes(Path.of("m")))).toString(16));
        Process p = new ProcessBuilder("tr", "a-z", "A-Z").start();
        try (Writer w = new OutputStreamWriter(p.getOutputStream())) { for (int i = 0; i < 500; i++) w.write("line " + i + "\n"); }
        System.out.println(new BufferedReader(new InputStreamReader(p.getInputStream())).lines().mapToInt(String::length).sum() + " " + p.waitFor());
        int sum = 0;
        List<Process> ps = new ArrayList<>();
        for (int i = 0; i < 20; i++) ps.add(new ProcessBuilder("sh", "-c", "exit " + i).start());
        for (Process x : ps) sum += x.waitFor();
        System.out.println(sum);
        try { new ProcessBuilder("/no/such").start(); } catch (IOException e) { System.out.println(e.getMessage().contains("error=2")); }
        Process s = new ProcessBuilder("sleep", "60").start(); s.destroy(); System.out.println(s.waitFor());
        var addr = UnixDomainSocketAddress.of("sock");
        try (ServerSocketChannel srv = ServerSocketChannel.open(StandardProtocolFamily.UNIX)) {
            srv.bind(addr);
            Thread t = new Thread(() -> { try (SocketChannel c = srv.accept()) { ByteBuffer b = ByteBuffer.allocate(4096); while (c.read(b) >= 0) { b.flip(); while (b.hasRemaining()) c.write(b); b.clear(); } } catch (IOException e) { System.out.println(e); } });
            t.start();
            try (SocketChannel c = SocketChannel.open(addr)) {
                ByteBuffer b = ByteBuffer.allocate(64);
                int ok = 0;
                for (int i = 0; i < 200; i++) { c.write(ByteBuffer.wrap(("msg" + i).getBytes())); b.clear(); int n = c.read(b); ok += new String(b.array(), 0, n).equals("msg" + i) ? 1 : 0; }
                System.out.println("echo " + ok);
            }
            t.join();
        }
        try (Selector sel = Selector.open()) { Pipe pipe = Pipe.open(); pipe.source().configureBlocking(false); pipe.source().register(sel, SelectionKey.OP_READ); System.out.println(sel.select(50)); pipe.sink().write(ByteBuffer.wrap(new byte[3])); System.out.println(sel.select(5000)); }
        try (WatchService ws = FileSystems.getDefault().newWatchService()) { Path.of("d").register(ws, StandardWatchEventKinds.ENTRY_CREATE); Files.writeString(Path.of("d/new"), "x"); WatchKey k = ws.poll(20, java.util.concurrent.TimeUnit.SECONDS); System.out.println(k == null ? "nothing" : k.pollEvents().get(0).context()); }
        System.out.println(ProcessHandle.current().pid() > 0 ? "pid" : "?");
        System.out.println(System.getProperty("user.dir").equals(Path.of("").toAbsolutePath().toString()) + " " + InetAddress.getByAddress(new byte[] {127, 0, 0, 1}).isLoopbackAddress() + " " + StandardCharsets.UTF_8.encode("ü").remaining());
    }
}
