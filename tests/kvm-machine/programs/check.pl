# Strings, a hash, commands, and children.
my %x;
$x{$_ % 97} .= $_ for 1 .. 20000;
print length(join '', sort values %x), "\n", scalar `seq 5`;
for my $code (3, 4) {
    fork or exit $code;
}
my %ends;
while ((my $pid = wait) > 0) { $ends{$? >> 8}++ }
print join(' ', sort keys %ends), "\n";
