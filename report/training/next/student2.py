import sys,time,os; sys.path.insert(0,"/tmp/m/src3")
import numpy as np
from koala_utils.backend import keras,tf,compiled
from koala_utils.embedding import classifier_for, load_extractor, standardized
from koala_utils import film
from koala_utils.weights import save_weights
M="/tmp/m/"
names=["imagenette","imagewoof","scenes","imagenet_sample","flickr8k","kodachrome"]
rep={"imagenet_sample":3,"kodachrome":1}
X=[np.load(M+n+".npy") for n in names]
# hold out validation: last 5 % of each
full=load_extractor("efficientnet_lite2")
pool=keras.Model(full.input,[full.output,full.get_layer("pooling").output])
call=tf.function(lambda x: pool(x,training=False))
def teacher(arr,tag):
    p=f"{M}teach-{tag}.npz"
    if os.path.exists(p): z=np.load(p); return z["l"],z["p"]
    L=[];P=[]
    for i in range(0,len(arr),32):
        x=tf.image.resize(tf.cast(arr[i:i+32],tf.float32)/127.5-1,(260,260))
        l,q=call(x); L.append(l.numpy().astype(np.float16)); P.append(q.numpy().astype(np.float16))
    L=np.concatenate(L);P=np.concatenate(P); np.savez(p,l=L,p=P); print("teacher",tag,len(L),flush=True); return L,P
T=[teacher(a,n) for a,n in zip(X,names)]
V=np.load(M+"val-imagenette.npy"); VL,_=teacher(V,"val-imagenette"); V,VL=V[::2],VL[::2]
VF=np.load(M+"val-flickr8k.npy"); VFL,_=teacher(VF,"val-flickr8k"); VF,VFL=VF[::2],VFL[::2]
syn={}
import csv
S=int(sys.argv[1]); EPOCHS=float(sys.argv[2]); LR=float(sys.argv[3]); OUT=sys.argv[4]; START=sys.argv[5] if len(sys.argv)>5 else None
B=32
arr=np.concatenate(X); L=np.concatenate([t[0] for t in T]); P=np.concatenate([t[1] for t in T])
idx=np.concatenate([np.repeat(np.arange(len(a)),rep.get(n,1))+o for a,n,o in zip(X,names,np.cumsum([0]+[len(a) for a in X[:-1]]))])
del X
student=classifier_for(None,"efficientnet_lite2")
if START:
    from koala_utils.weights import load_weights; load_weights(student,START)
student.trainable=True
learn=keras.Model(student.input,[student.output,student.get_layer("pooling").output])
steps=int(len(idx)*EPOCHS//B)
warm=30
rate=keras.optimizers.schedules.CosineDecay(LR/10,steps-warm,alpha=0.02,warmup_target=LR,warmup_steps=warm)
opt=keras.optimizers.Adam(rate); opt.build(learn.trainable_variables)
ema=[v.numpy() for v in []]
def kl(t,s,temp=1.0):
    pt=tf.nn.softmax(t/temp); return tf.reduce_mean(tf.reduce_sum(pt*(tf.nn.log_softmax(t/temp)-tf.nn.log_softmax(s/temp)),-1))
@tf.function(reduce_retracing=False)
def step(rgb,l,p,seed,S=240):
    rgb=tf.cast(rgb,tf.float32)/255
    flip=tf.random.stateless_uniform((tf.shape(rgb)[0],1,1,1),seed)<0.5
    rgb=tf.where(flip,rgb[:,:,::-1],rgb)
    # mild random crop, the same for the batch
    u=tf.random.stateless_uniform((3,),seed+5); side=tf.cast(144*(1-0.2*u[0]),tf.int32)
    y=tf.cast(u[1]*tf.cast(144-side,tf.float32),tf.int32); x=tf.cast(u[2]*tf.cast(144-side,tf.float32),tf.int32)
    rgb=rgb[:,y:y+side,x:x+side]
    rgb=tf.clip_by_value(tf.image.resize(rgb,(S,S)),0,1)
    g=tf.repeat(film.random_film(rgb,seed+7),3,-1)*2-1
    with tf.GradientTape() as tape:
        sl,sp=learn(g,training=True)
        a=tf.reduce_mean((standardized(sl)-standardized(l))**2)
        k=kl(l,sl)
        f=tf.reduce_mean(1-tf.reduce_sum(tf.nn.l2_normalize(sp,-1)*tf.nn.l2_normalize(p,-1),-1))
        loss=a+0.5*k+f
    gr=tape.gradient(loss,learn.trainable_variables)
    opt.apply_gradients(zip(gr,learn.trainable_variables))
    return a,k,f
def evaluate(tag):
    ev=classifier_for(260,"efficientnet_lite2"); ev.set_weights(student.get_weights()); c=tf.function(lambda x: ev(x,training=False))
    for n,v,vl in (("imagenette",V,VL),("flickr",VF,VFL)):
        ag=[];t1=[]
        for i in range(0,len(v),32):
            rgb=tf.image.resize(tf.cast(v[i:i+32],tf.float32)/255,(260,260)); o=c(tf.repeat(film.to_grey(rgb),3,-1)*2-1).numpy()
            t=vl[i:i+32].astype(np.float32)
            sd=lambda z:(z-z.mean(-1,keepdims=True))/z.std(-1,keepdims=True)
            ag.append((sd(o)*sd(t)).mean(-1)); t1.append(o.argmax(-1)==t.argmax(-1))
        print(tag,n,"agreement %.4f same top1 as colour %.4f"%(np.concatenate(ag).mean(),np.concatenate(t1).mean()),flush=True)
evaluate("before")
rng=np.random.default_rng(0); b=time.time(); acc=[]
order=np.concatenate([rng.permutation(idx) for _ in range(int(np.ceil(EPOCHS)))])
for s in range(steps):
    j=order[s*B:(s+1)*B]
    acc.append([float(v) for v in step(arr[j],L[j].astype(np.float32),P[j].astype(np.float32),tf.constant([0,s+1]),S=(224,260)[s%2])])
    if s%100==99: print(s+1,"of",steps,np.mean(acc,0).round(4),round((time.time()-b)/60,1),"min",flush=True); acc=[]
    if s%100==99 or s==steps-1: save_weights(student,OUT,{"steps":s+1}); evaluate(s+1)
