import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;
import java.util.concurrent.locks.*;
import java.util.stream.*;

/** Threads and synchronisation of the Java virtual machine, with results that do not depend on scheduling. */
public class Main {
    static int turn = 0;

    public static void main(String[] args) throws Exception {
        ExecutorService ex = Executors.newFixedThreadPool(8);
        List<Future<Long>> fs = new ArrayList<>();
        for (int i = 0; i < 200; i++) { final int n = i; fs.add(ex.submit(() -> LongStream.rangeClosed(0, n * 100).sum())); }
        long s = 0;
        for (Future<Long> f : fs) s += f.get();
        System.out.println("futures " + s);
        AtomicLong a = new AtomicLong();
        long[] plain = {0};
        ReentrantLock lock = new ReentrantLock();
        Thread[] ts = new Thread[20];
        for (int i = 0; i < 20; i++) { ts[i] = new Thread(() -> { for (int k = 0; k < 5000; k++) { a.incrementAndGet(); lock.lock(); try { plain[0]++; } finally { lock.unlock(); } } }); ts[i].start(); }
        for (Thread t : ts) t.join();
        System.out.println(a + " " + plain[0]);
        Object m = new Object();
        StringBuilder log = new StringBuilder();
        Thread[] ps = new Thread[3];
        for (int i = 0; i < 3; i++) { final int me = i; ps[i] = new Thread(() -> { for (int k = 0; k < 200; k++) synchronized (m) { try { while (turn != me) m.wait(); } catch (InterruptedException e) { return; } log.append(me); turn = (turn + 1) % 3; m.notifyAll(); } }); ps[i].start(); }
        for (Thread t : ps) t.join();
        System.out.println(log.toString().equals("012".repeat(200)));
        BlockingQueue<Integer> q = new ArrayBlockingQueue<>(5);
        Future<Integer> sum = ex.submit(() -> { int t = 0, x; while ((x = q.take()) >= 0) t += x; return t; });
        for (int i = 0; i < 3000; i++) q.put(i);
        q.put(-1);
        System.out.println(sum.get());
        System.out.println(IntStream.range(0, 2000000).parallel().filter(x -> x % 7 == 0).mapToLong(x -> x).sum());
        System.out.println(Stream.of("c", "a", "b").parallel().sorted().collect(Collectors.joining()) + " " + new ForkJoinPool(4).invoke(new Fib(20)));
        Thread sl = new Thread(() -> { try { Thread.sleep(60000); System.out.println("?"); } catch (InterruptedException e) { System.out.println("interrupted"); } });
        sl.start(); sl.interrupt(); sl.join();
        CyclicBarrier bar = new CyclicBarrier(5);
        CountDownLatch latch = new CountDownLatch(5);
        AtomicInteger rounds = new AtomicInteger();
        for (int i = 0; i < 5; i++) ex.execute(() -> { try { for (int k = 0; k < 50; k++) if (bar.await() == 0) rounds.incrementAndGet(); } catch (Exception e) { rounds.set(-1); } latch.countDown(); });
        System.out.println(latch.await(60, TimeUnit.SECONDS) + " " + rounds);
        ScheduledExecutorService sch = Executors.newScheduledThreadPool(2);
        AtomicInteger ticks = new AtomicInteger();
        sch.scheduleAtFixedRate(ticks::incrementAndGet, 0, 5, TimeUnit.MILLISECONDS);
        String late = sch.schedule(() -> "scheduled", 100, TimeUnit.MILLISECONDS).get();
        System.out.println(late + " " + (ticks.get() > 1));
        sch.shutdownNow();
        long t0 = System.nanoTime();
        LockSupport.parkNanos(20_000_000);
        System.out.println((System.nanoTime() - t0) >= 15_000_000L || "early".isEmpty());
        System.out.println(CompletableFuture.supplyAsync(() -> 20).thenCombine(CompletableFuture.supplyAsync(() -> 22), Integer::sum).get());
        ConcurrentHashMap<Integer, Integer> map = new ConcurrentHashMap<>();
        IntStream.range(0, 100000).parallel().forEach(i -> map.merge(i % 1000, 1, Integer::sum));
        System.out.println(map.size() + " " + map.get(5));
        for (int i = 0; i < 500; i++) { Thread t = new Thread(() -> {}); t.start(); t.join(); }
        ex.shutdown();
        System.out.println(ex.awaitTermination(10, TimeUnit.SECONDS) + " " + (Runtime.getRuntime().availableProcessors() >= 1));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println("shutdown hook")));
        System.exit(4);
    }

    static class Fib extends RecursiveTask<Integer> {
        final int n;
        Fib(int n) { this.n = n; }
        protected Integer compute() { if (n < 2) return n; Fib f = new Fib(n - 1); f.fork(); return new Fib(n - 2).compute() + f.join(); }
    }
}
