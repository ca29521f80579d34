"""plus3.py NAME ENCODER STEPS LR SCALE CROP [START]: trains the decoder of koala-plus. Photographs are enlarged to about SCALE, and windows of
CROP are cut; the embedding is the whole photograph's, made once by the encoder at 240 px from plain film."""
import sys,time,os,csv,threading; sys.path.insert(0,os.environ.get("PKG","/tmp/m/src4"))
import numpy as np
from PIL import Image
from koala_utils.backend import keras,tf
from koala_utils import film,lab,records,network as N,quantization as Q
from koala_utils.embedding import classifier_for,standardize,standardized
from koala_utils.weights import save_weights,load_weights
NAME,ENC,STEPS,LR,SCALE,CROP=sys.argv[1],sys.argv[2],int(sys.argv[3]),float(sys.argv[4]),int(sys.argv[5]),int(sys.argv[6])
START=sys.argv[7] if len(sys.argv)>7 else None
SRC=os.environ.get("SRC","imagenette:4000,imagewoof:1000,scenes:3000,imagenet_sample:2800,flickr8k:7267,kodachrome:1600")
M="/tmp/m/"; B=32; SEED=int(os.environ.get("SEED","0")); rng=np.random.default_rng(SEED)
runs={r["file"].split("/")[1]:int(r["run"]) for r in csv.DictReader(open("/work/shared/data/kodachrome/kodachrome.csv")) if r["split"]=="train"}
kod=np.load(M+"kodachrome.npy"); kk=open(M+"kodachrome.txt").read().split("\n")
valruns=sorted(set(runs.values()))[4::12]
isval=np.array([runs[k] in valruns for k in kk])
net=N.build_plus(); cl=classifier_for(None,"efficientnet_lite2"); load_weights(cl,ENC); net.get_layer("encoder").set_weights(cl.get_weights())
dec,enc=net.get_layer("decoder"),net.get_layer("encoder")
if START: load_weights(dec,START)
own=N.with_own_embedding(net)
logits=tf.function(lambda l: enc(l,training=False)[-1])
def embeddings(name,a):
    p=f"{M}emb-{os.path.basename(ENC)}-{name}.npy"
    if os.path.exists(p): return np.load(p)
    out=[]
    for i in range(0,len(a),32):
        rgb=tf.clip_by_value(tf.image.resize(tf.cast(a[i:i+32],tf.float32)/255,(240,240)),0,1)
        out.append(logits(lab.lightness(film.to_grey(rgb))).numpy())
    e=standardize(np.concatenate(out)).astype(np.float16); np.save(p,e); print("embedded",name,len(e),flush=True); return e
data={}
for s in SRC.split(","):
    n,k=s.split(":"); a=np.load(M+n+".npy"); e=embeddings(n,a)
    keep=np.arange(len(a))
    if n=="kodachrome": keep=keep[~isval]
    elif n in("scenes","imagenet_sample"): keep=keep[keep%20!=19]
    data[n]=(a,e,keep,int(k))
VAL={"imagenette":np.load(M+"val-imagenette.npy")[::4],"flickr":np.load(M+"val-flickr8k.npy")[::2],"kodachrome":kod[isval],"scenes":np.load(M+"scenes.npy")[19::40],"sample":np.load(M+"imagenet_sample.npy")[19::20]}
def stream():
    while True:
        pick=[]
        for n,(a,e,keep,k) in data.items():
            i=np.concatenate([rng.permutation(keep) for _ in range(-(-k//len(keep)))])[:k]; pick+=[(n,j) for j in i]
        for q in rng.permutation(len(pick)): yield pick[q]
def fetch():
    for n,j in stream():
        a,e=data[n][0][j],data[n][1][j]
        part=CROP/SCALE; s=int(round(144*np.clip(part*np.exp(rng.uniform(-.3,.3)),0,1)))
        y,x=rng.integers(0,144-s+1,2); a=a[y:y+s,x:x+s]
        if rng.random()<.5: a=a[:,::-1]
        yield np.asarray(Image.fromarray(np.ascontiguousarray(a)).resize((CROP,CROP),Image.BICUBIC)),e
ds=tf.data.Dataset.from_generator(fetch,output_signature=(tf.TensorSpec((CROP,CROP,3),tf.uint8),tf.TensorSpec((1000,),tf.float16))).batch(B)
ds=tf.data.Dataset.zip(ds,tf.data.Dataset.counter())
def prep(xe,i):
    rgb=tf.cast(xe[0],tf.float32)/255
    s=tf.stack([tf.constant(SEED+1,tf.int64),i]); return lab.lightness(film.random_film(rgb,s)),lab.chroma(rgb),records.blur_embedding(tf.cast(xe[1],tf.float32),s+7)
ds=ds.map(prep,num_parallel_calls=1).prefetch(3)
bins=tf.constant(Q.bins()[0])
warm=min(150,STEPS//10)
rate=keras.optimizers.schedules.CosineDecay(LR/10,STEPS-warm,alpha=0.02,warmup_target=LR,warmup_steps=warm)
opt=keras.optimizers.Adam(rate); opt.build(dec.trainable_variables)
ema=[tf.Variable(v) for v in dec.trainable_variables]
ME=float(os.environ.get("ME","100")); MOM=float(os.environ.get("MOM","0.997"))
@tf.function(jit_compile=False)
def step(l,c,e):
    *f,lo=enc(l,training=False)
    with tf.GradientTape() as t:
        z=dec([*f,e],training=True)
        small=tf.nn.avg_pool2d(c,4,4,"VALID")
        truth=Q.soft_encode(small)
        ce=tf.reduce_mean(tf.reduce_logsumexp(z,-1)-tf.reduce_sum(truth*z,-1))
        mean=tf.matmul(tf.nn.softmax(z),bins)
        se=tf.reduce_mean((mean-small)**2)
        loss=ce+ME*se
    g=t.gradient(loss,dec.trainable_variables); opt.apply_gradients(zip(g,dec.trainable_variables))
    return ce,se
fast=tf.function(lambda l: own(l,training=False)[0],reduce_retracing=True)
from koala_utils.evaluation import colorfulness
def val():
    vs=dec.trainable_variables; keep=[v.numpy() for v in vs]; [v.assign(e) for v,e in zip(vs,ema)]
    out=[];tot=[]
    for n,a in VAL.items():
        side=224
        err={v:0. for v in (0,.5,1)}; cf={v:[] for v in err}; g=0.; tc=[]
        for i in range(0,len(a),16):
            rgb=tf.image.resize(tf.cast(a[i:i+16],tf.float32)/255,(side,side),antialias=True); rgb=tf.clip_by_value(rgb,0,1)
            l,c=lab.lightness(film.to_grey(rgb)),lab.chroma(rgb).numpy()
            z=fast(l); g+=(c**2).sum((1,2,3)).sum()
            for v in err:
                p=N.chroma_of(z,v).numpy(); err[v]+=((p-c)**2).sum()
                if v: cf[v]+=[colorfulness((x*255).astype(np.uint8)) for x in lab.to_rgb(l,p)]
            tc+=[colorfulness((x*255).astype(np.uint8)) for x in rgb.numpy()]
        r=[err[v]/g for v in err]; f=[sum(cf[v])/sum(tc) for v in (.5,1)]
        out.append(f"{n} "+" ".join("%.3f"%x for x in r)+" cf "+" ".join("%.2f"%x for x in f)); tot.append(r+f)
    print("VAL",np.mean(tot,0).round(3).tolist(),"|"," | ".join(out),flush=True)
    save_weights(dec,f"{M}{NAME}.safetensors",{"model":"koala-plus"})
    [v.assign(k) for v,k in zip(vs,keep)]
b=time.time(); acc=[]; s=0
for l,c,e in ds:
    acc.append([float(x) for x in step(l,c,e)]); s+=1
    mom=min(MOM,s/(s+20))
    for a,v in zip(ema,dec.trainable_variables): a.assign(mom*a+(1-mom)*v)
    if s%50==0: print(s,"of",STEPS,"ce %.3f se %.5f"%tuple(np.mean(acc,0)),"%.1f min"%((time.time()-b)/60),flush=True); acc=[]
    if s%int(os.environ.get("EVERY","500"))==0 or s==STEPS: val()
    if s==STEPS: break
