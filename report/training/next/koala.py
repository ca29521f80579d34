"""koala.py GREY STEPS LR CROP OUT: the paper's network moved to the new embedding (ridge regression of its fusion), then trained on."""
import sys,time,os,csv; sys.path.insert(0,"/tmp/m/src2")
import numpy as np
from PIL import Image
from koala_utils.backend import keras,tf
from koala_utils import film,lab,network as N
from koala_utils.embedding import classifier_for,standardize
from koala_utils.weights import save_weights,load_weights
GREY,STEPS,LR,CROP,OUT=sys.argv[1],int(sys.argv[2]),float(sys.argv[3]),int(sys.argv[4]),sys.argv[5]
START=sys.argv[6] if len(sys.argv)>6 else None
M="/tmp/m/"; B=32; rng=np.random.default_rng(0)
runs={r["file"].split("/")[1]:int(r["run"]) for r in csv.DictReader(open("/work/shared/data/kodachrome/kodachrome.csv")) if r["split"]=="train"}
kod=np.load(M+"kodachrome.npy"); kk=open(M+"kodachrome.txt").read().split("\n"); valruns=sorted(set(runs.values()))[4::12]
isval=np.array([runs[k] in valruns for k in kk])
def sub(n,k): a=np.load(M+n+".npy"); return a[rng.permutation(len(a))[:k]]
K=int(os.environ.get("K","6000"))
parts=[("imagenette",.22),("imagewoof",.05),("scenes",.17),("flickr8k",.36)]
a=[sub(n,int(f*K)) for n,f in parts]; sm=np.load(M+"imagenet_sample.npy"); a.append(sm[np.arange(len(sm))%20!=19]); a.append(kod[~isval]); X=np.concatenate(a); print(len(X),"photographs")
VAL={"imagenette":np.load(M+"val-imagenette.npy")[::6],"flickr":np.load(M+"val-flickr8k.npy")[::2],"kodachrome":kod[isval],"scenes":np.load(M+"scenes.npy")[19::60],"sample":sm[19::20]}
S=224
new=classifier_for(S,"efficientnet_lite2"); load_weights(new,GREY); fn=tf.function(lambda x:new(x,training=False))
def emb(f,arr):
    out=[]
    for i in range(0,len(arr),32):
        g=film.to_grey(tf.clip_by_value(tf.image.resize(tf.cast(arr[i:i+32],tf.float32)/255,(S,S),antialias=True),0,1)); out.append(f(tf.repeat(g,3,-1)*2-1).numpy())
    return standardize(np.concatenate(out))
t=time.time(); E=emb(fn,X); print("new",time.time()-t,flush=True)
net=N.build_network()
if START: load_weights(net,START)
else:
    load_weights(net,M+"old/koala.safetensors")
    old=keras.applications.MobileNetV2(weights=None,classifier_activation=None,input_shape=(224,224,3)); load_weights(old,M+"old/mobilenet_v2_grey.safetensors")
    S=224; O=emb(tf.function(lambda x:old(x,training=False)),X); print("old",time.time()-t,flush=True)
    d=net.get_layer("fusion_embedding"); W,b=d.get_weights(); Y=O@W
    lam=float(os.environ.get("LAM","300")); A=E.T@E+lam*np.eye(1000); W2=np.linalg.solve(A,E.T@Y); print("explained",1-((E@W2-Y)**2).sum()/((Y-Y.mean(0))**2).sum())
    d.set_weights([W2,b])
VE={n:emb(fn,v) for n,v in VAL.items()}
call=tf.function(lambda l,e:net([l,e],training=False),reduce_retracing=True)
def val(tag):
    r=[]
    for n,v in VAL.items():
        e=g=0
        for i in range(0,len(v),16):
            rgb=tf.clip_by_value(tf.image.resize(tf.cast(v[i:i+16],tf.float32)/255,(128,128),antialias=True),0,1)
            l,c=lab.lightness(film.to_grey(rgb)),lab.chroma(rgb).numpy(); p=call(l,VE[n][i:i+16]).numpy(); e+=((p-c)**2).sum(); g+=(c**2).sum()
        r.append(e/g)
    print("VAL",tag,"%.4f"%np.mean(r)," ".join(f"{n} {x:.3f}" for n,x in zip(VAL,r)),flush=True)
val("start")
opt=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(LR/10,max(1,STEPS-50),alpha=.02,warmup_target=LR,warmup_steps=50)); opt.build(net.trainable_variables)
ema=[tf.Variable(v) for v in net.trainable_variables]
@tf.function
def step(rgb,e,s):
    rgb=tf.cast(rgb,tf.float32)/255
    l,c=lab.lightness(film.random_film(rgb,s)),lab.chroma(rgb)
    e=e+tf.random.stateless_uniform((tf.shape(e)[0],1),s,0,.6)*tf.random.stateless_normal(tf.shape(e),s+1)
    with tf.GradientTape() as t: loss=tf.reduce_mean((net([l,e],training=True)-c)**2)
    g=t.gradient(loss,net.trainable_variables); opt.apply_gradients(zip(g,net.trainable_variables))
    for a,v in zip(ema,net.trainable_variables): a.assign(.99*a+.01*v)
    return loss
acc=[];t=time.time(); order=np.concatenate([rng.permutation(len(X)) for _ in range(STEPS*B//len(X)+1)])
def square(a):
    h=a.shape[0]; s=int(h*rng.uniform(.55,1)); y,x=rng.integers(0,h-s+1,2); a=a[y:y+s,x:x+s]; a=a[:,::-1] if rng.random()<.5 else a
    return np.asarray(Image.fromarray(np.ascontiguousarray(a)).resize((CROP,CROP),Image.BILINEAR))
for s in range(STEPS):
    j=order[s*B:(s+1)*B]; acc.append(float(step(np.stack([square(X[q]) for q in j]),E[j],tf.constant([3,s]))))
    if s%50==49: print(s+1,"%.5f"%np.mean(acc),"%.1f min"%((time.time()-t)/60),flush=True); acc=[]
    if s%150==149 or s==STEPS-1:
        keep=net.get_weights(); [v.assign(a) for v,a in zip(net.trainable_variables,ema)]; val(s+1); save_weights(net,OUT,{"model":"koala","extractor":"efficientnet_lite2_grey"}); net.set_weights(keep)
