import java.util.*;

/** Allocation, collection and the traps that a virtual machine turns into exceptions. */
public class Main {
    static class Node { Node l, r; Node(Node l, Node r) { this.l = l; this.r = r; } int count() { return l == null ? 1 : 1 + l.count() + r.count(); } }
    static Node build(int d) { return d == 0 ? new Node(null, null) : new Node(build(d - 1), build(d - 1)); }
    static int depth = 0;
    static void recurse() { depth++; recurse(); }

    public static void main(String[] args) {
        String mode = args.length > 0 ? args[0] : "";
        if (mode.equals("oom")) { List<byte[]> l = new ArrayList<>(); try { for (;;) l.add(new byte[1 << 20]); } catch (OutOfMemoryError e) { l = null; System.out.println("out of memory"); return; } }
        int n = mode.equals("quick") ? 10 : 200;
        long total = 0;
        Node keep = build(14);
        for (int i = 0; i < n; i++) total += build(11).count();
        System.out.println("trees " + total + " " + keep.count());
        Map<Integer, byte[]> cache = new LinkedHashMap<>();
        for (int i = 0; i < n * 50; i++) { cache.put(i, new byte[10000]); if (cache.size() > 1000) cache.remove(i - 1000); }
        System.out.println("cache " + cache.size());
        int traps = 0;
        String s = n > 0 ? null : "";
        for (int i = 0; i < 1000; i++) try { traps += s.length(); } catch (NullPointerException e) { traps++; }
        for (int i = 0; i < 1000; i++) try { traps += 1 / (n - n); } catch (ArithmeticException e) { traps++; }
        for (int i = 0; i < 1000; i++) try { traps += new int[3][5][i % 2 * 10].length; } catch (ArrayIndexOutOfBoundsException e) { traps++; }
        System.out.println("traps " + traps);
        try { recurse(); } catch (StackOverflowError e) { System.out.println("stack overflow " + (depth > 1000)); }
        long h = 0;
        for (int i = 0; i < n * 100000; i++) h = h * 31 + (i ^ (h >>> 7));
        System.out.println("hash " + h);
        StringBuilder b = new StringBuilder();
        for (int i = 0; i < n * 500; i++) b.append(i);
        System.out.println("string " + b.toString().hashCode() + " " + Math.sin(1) + " " + Math.fma(2, 3, 4));
        System.gc();
        System.out.println("free " + (Runtime.getRuntime().freeMemory() > 0));
    }
}
