<?php // A slow report, as a program (echo '{"steps":8}' | php calls.php) and behind a web server (php -S 127.0.0.1:9000 calls.php).
header('Content-Type: application/x-ndjson');
$asked = json_decode(file_get_contents(PHP_SAPI === 'cli' ? 'php://stdin' : 'php://input') ?: '{}', true);
$steps = $asked['steps'] ?? 8;
for ($step = 1; $step <= $steps; $step++) {
    usleep(100000); // the work
    echo json_encode(['step' => $step, 'progress' => $step / $steps]), "\n";
    if (ob_get_level()) ob_flush();
    flush(); // at once, not when a buffer is full
}
echo json_encode(['result' => "all $steps done"]), "\n";
