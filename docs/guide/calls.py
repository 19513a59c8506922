# A slow report, a line of JSON for each step: echo '{"steps":8}' | python3 calls.py
import json, sys, time

steps = json.loads(sys.stdin.read() or "{}").get("steps", 8)
for step in range(1, steps + 1):
    time.sleep(0.1)  # the work
    print(json.dumps({"step": step, "progress": step / steps}), flush=True)  # at once, not when a buffer is full
print(json.dumps({"result": f"all {steps} done"}), flush=True)
