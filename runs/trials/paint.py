"""paint.py FOLDER STEPS LR: how soon the model before stage III paints, if it learns nothing else."""
import random, sys, time, torch
torch.set_num_threads(1)
from pathlib import Path
from minidream.train import batches, stages
from minidream.studies import speedrun
from minidream.weights.parts import assemble, NEEDS
folder, steps, lr = Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
model = assemble(folder, "stage3", NEEDS["stage3"])
stage = stages.DocumentStage("stage3", model)
params = [p for p in stage.parameters() if p.requires_grad]
opt = torch.optim.AdamW(params, lr=lr, weight_decay=0.0)
t0 = time.time(); losses = []
for step in range(steps):
    task = (batches.simple_text_to_image, batches.text_to_image)[step % 2]
    batch = task(random.Random(f"paint {step}"), 64, model)
    opt.param_groups[0]["lr"] = lr * min(1, (step + 1) / 20) * (1 if step < .5 * steps else max(.05, (steps - step) / (.5 * steps)))
    loss = stage(batch, torch.Generator().manual_seed(step)); losses.append(loss["diffusion"].item())
    opt.zero_grad(); loss["total"].backward(); torch.nn.utils.clip_grad_norm_(params, 1.0); opt.step()
    if (step + 1) % 100 == 0: print(step + 1, f"{time.time()-t0:.0f}s diffusion {sum(losses[-100:])/100:.5f}", flush=True)
print("painted right of 100:", speedrun.painted_right(model.eval(), 100, seed=5), flush=True)
