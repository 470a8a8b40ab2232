// A program that leans on the Go runtime's use of the kernel: threads, futexes, signals, timers and memory.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func sieve(n int) int {
	ch := make(chan int)
	go func() {
		for i := 2; ; i++ {
			ch <- i
		}
	}()
	p := 0
	for i := 0; i < n; i++ {
		p = <-ch
		next := make(chan int)
		go func(in <-chan int, out chan<- int, p int) {
			for {
				if x := <-in; x%p != 0 {
					out <- x
				}
			}
		}(ch, next, p)
		ch = next
	}
	return p
}

type tree struct{ l, r *tree }

func build(d int) *tree {
	if d == 0 {
		return &tree{}
	}
	return &tree{build(d - 1), build(d - 1)}
}
func (t *tree) count() int {
	if t.l == nil {
		return 1
	}
	return 1 + t.l.count() + t.r.count()
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "panic" {
		var m map[string]int
		m["x"] = 1
	}
	if len(os.Args) > 1 && os.Args[1] == "deadlock" {
		<-make(chan int)
	}
	fmt.Println("sieve", sieve(200))
	var wg sync.WaitGroup
	var n int64
	var mu sync.Mutex
	m := map[int]int{}
	for i := 0; i < 5000; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			atomic.AddInt64(&n, int64(i))
			mu.Lock()
			m[i%100]++
			mu.Unlock()
			runtime.Gosched()
		}(i)
	}
	wg.Wait()
	fmt.Println("goroutines", n, len(m), m[7])
	total := 0
	for i := 0; i < 10; i++ {
		total += build(14).count()
	}
	runtime.GC()
	var ms runtime.MemStats
	runtime.ReadMemStats(&ms)
	fmt.Println("trees", total, ms.NumGC > 0)
	var spin int64
	for i := 0; i < 4; i++ { // Loops without calls: only signals can pre-empt them.
		go func() {
			for x := 0; atomic.LoadInt64(&spin) == 0; x++ {
			}
		}()
	}
	time.Sleep(50 * time.Millisecond)
	runtime.GC()
	atomic.StoreInt64(&spin, 1)
	fmt.Println("pre-empted")
	var order []string
	t := time.NewTimer(30 * time.Millisecond)
	tick := time.NewTicker(10 * time.Millisecond)
	ticks := 0
loop:
	for {
		select {
		case <-tick.C:
			ticks++
		case <-t.C:
			break loop
		}
	}
	tick.Stop()
	fmt.Println("timers", ticks >= 1, order == nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	<-ctx.Done()
	fmt.Println(ctx.Err())
	out, err := exec.Command("sh", "-c", "echo from a child; exit 0").CombinedOutput()
	fmt.Printf("%q %v\n", out, err)
	fmt.Println(exec.Command("sh", "-c", "exit 7").Run(), exec.Command("/no/such").Run())
	c, cancel2 := context.WithTimeout(context.Background(), 100*time.Millisecond)
	fmt.Println(exec.CommandContext(c, "sleep", "60").Run())
	cancel2()
	outs := make([]string, 20)
	for i := range outs {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			cmd := exec.Command("tr", "a-z", "A-Z")
			cmd.Stdin = strings.NewReader(strings.Repeat("x", i))
			b, _ := cmd.Output()
			outs[i] = string(b)
		}(i)
	}
	wg.Wait()
	fmt.Println("children", len(strings.Join(outs, "")))
	sig := make(chan os.Signal, 4)
	signal.Notify(sig, syscall.SIGUSR1, syscall.SIGTERM)
	syscall.Kill(os.Getpid(), syscall.SIGUSR1)
	fmt.Println(<-sig)
	syscall.Kill(os.Getpid(), syscall.SIGTERM)
	fmt.Println(<-sig)
	dir, _ := os.MkdirTemp(".", "t")
	for i := 0; i < 200; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), bytes.Repeat([]byte{byte(i)}, i*50), 0o644)
		}(i)
	}
	wg.Wait()
	h := sha256.New()
	var names []string
	filepath.Walk(dir, func(p string, fi os.FileInfo, err error) error {
		if fi.Mode().IsRegular() {
			names = append(names, p)
		}
		return err
	})
	sort.Strings(names)
	for _, p := range names {
		f, _ := os.Open(p)
		io.Copy(h, f)
		f.Close()
	}
	fmt.Printf("files %d %x\n", len(names), h.Sum(nil)[:8])
	fmt.Println(os.RemoveAll(dir))
	l, err := net.Listen("unix", "go.sock")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	var bad int64
	for i := 0; i < 40; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			c, err := net.Dial("unix", "go.sock")
			if err != nil {
				atomic.AddInt64(&bad, 1)
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for k := 0; k < 25; k++ {
				fmt.Fprintf(c, "%d %d\n", i, k)
				if s, _ := r.ReadString('\n'); s != fmt.Sprintf("%d %d\n", i, k) {
					atomic.AddInt64(&bad, 1)
				}
			}
		}(i)
	}
	wg.Wait()
	l.Close()
	fmt.Println("echo server", bad)
	_, err = os.Open("/no/such/file")
	fmt.Println(err)
	fmt.Println(recovered())
	os.Exit(len(os.Args))
}

func recovered() (r any) {
	defer func() { r = recover() }()
	var p *tree
	return p.l // A SIGSEGV that the runtime turns into a panic.
}
