"""Fine-tuning of any model of this package on the user's own data.

`python -m minidream.train tune --model NAME_OR_FOLDER --data FOLDER` says first what it needs,
trains with the loop of `trainer`, and saves a merged model in the official layout.

| file | what it does |
|---|---|
| `choices` | which parameters learn: a LoRA, the projectors, the language model, the U-Net |
| `words` | new words in the toy's tokenizer; the old ones keep their ids and their rows |
| `stream` | looks the data over, and makes the batch of every step from them |
| `needs` | the bytes that a step needs, before it starts |
| `forgetting` | losses on what was known before, before and after |
| `stage` | the stage that `trainer.fit` trains |
| `running` | one run, from the model that was named to the one that is saved |
| `command` | the command line |
| `gpus` | what the published 7B needs in each of the paper's stages on many GPUs |
"""
